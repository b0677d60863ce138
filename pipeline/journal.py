"""The journal of edits that people made to images: it is kept when images are tagged again, and has undo and redo."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.edits import Edit, effective, reworded, split_edit
from pipeline.errors import PrepError, first_line
from pipeline.manifest import read_if_valid
from pipeline.record import root_of
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace

JOURNAL = "decisions/edits.jsonl"
_LOCK_TIMEOUT = 30.0  # seconds to wait for another prep that is writing the journal, which takes milliseconds


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One line of the journal: edits made at once to some images, which are undone at once."""

    number: int
    ids: tuple[str, ...]
    edits: tuple[Edit, ...]
    names: tuple[str, ...] = ()  # the images' files when it was written, one per id; empty where unknown
    file: str = ""  # sha256 of the text of the caption file that it comes from; empty if it comes from none


@dataclass(frozen=True, slots=True)
class Decision:
    """One edit of one image, for many at once."""

    id: str
    edit: Edit
    name: str = ""  # the image's file; empty: as the manifest of all images has it
    file: str = ""  # as of JournalEntry


class Journal:
    """The journal of a workspace as far as it was read; append, undo and redo write to it immediately.

    Several processes may write to the same journal: a lock orders them, and each first reads what others wrote.
    """

    def __init__(self) -> None:
        self._at = 0  # bytes read, up to the end of a complete line
        self._number = 0  # number of the last line
        self._entries: dict[int, JournalEntry] = {}
        self._numbers: dict[str, list[int]] = {}  # by id, the entries that apply to it, in order
        self._sources: dict[str, str] | None = None  # the images' files by id, read when an entry is first written
        self._done: dict[int, None] = {}  # entries in effect, in order; the last is undone first
        self._undone: list[int] = []  # entries that can be redone; the last is redone first

    @classmethod
    def read(cls, workspace: Workspace) -> Journal:
        """The journal; empty if there is none. PrepError when a line other than the last is damaged."""
        edits = cls()
        edits.follow(workspace)
        return edits

    def of(self, id: str) -> tuple[Edit, ...]:
        """The edits of a record that are in effect, in order.

        An augmented copy 'id-k' has those of its root 'id', then its own. Edits that a later one cancels are left out:
        caption edits before `set` and `reset`, removed flags, restored drops.
        """
        root = root_of(id)
        numbers = [n for owner in dict.fromkeys((root, id)) for n in self._numbers.get(owner, ()) if n in self._done]
        return effective(edit for n in numbers for edit in self._entries[n].edits) if numbers else ()

    def with_caption(self, id: str, caption: str) -> str:
        """A caption after the edits that set it as a whole, and those after them; without any, the caption itself."""
        edits = self.of(id)
        return reworded(edits[0].text, edits[1:]) if edits and edits[0].what == "set" else caption

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids with edits in effect, sorted."""
        return tuple(sorted(id for id in self._numbers if self.of(id)))

    @property
    def digest(self) -> str:
        """sha256 over all edits in effect; empty if there are none. It does not depend on undone edits."""
        edits = [(id, [(e.what, e.text, e.other, *filter(None, [e.at])) for e in self.of(id)]) for id in self.ids]
        return hashlib.sha256(json.dumps(edits, ensure_ascii=False).encode()).hexdigest() if edits else ""

    def owners(self, ids: Iterable[str]) -> list[str]:
        """The ids for which to write an edit of all `ids`: without copies that inherit it from their root."""
        ids = dict.fromkeys(ids)
        return [id for id in ids if (root := root_of(id)) == id or root not in ids or self.is_decided(id)]

    def copy(self) -> Journal:
        """A copy of the journal that later edits do not change."""
        twin = copy.copy(self)
        twin._entries, twin._done, twin._undone = dict(self._entries), dict(self._done), list(self._undone)
        twin._numbers = {id: list(numbers) for id, numbers in self._numbers.items()}
        return twin

    def supposing(self, ids: Iterable[str], edits: Iterable[Edit]) -> Journal:
        """The journal as it would be after these edits; writes nothing."""
        after = self.copy()
        after._number += 1
        after._add(JournalEntry(after._number, tuple(ids), tuple(edits)))
        return after

    def append(self, workspace: Workspace, ids: Iterable[str], edits: Iterable[Edit]) -> JournalEntry | None:
        """Add `edits` of the records `ids` as one step of undo; they are on disk when this returns.

        Returns None and writes nothing without ids or edits. Edits undone before can no longer be redone.
        """
        ids, edits = list(dict.fromkeys(ids)), tuple(edits)
        if not ids or not edits:
            return None
        with self._writing(workspace):
            entry = JournalEntry(self._number + 1, tuple(ids), edits, tuple(self._name(workspace, id) for id in ids))
            self._write(workspace, _line(entry))
            return self._entries[self._number]

    def append_each(self, workspace: Workspace, decisions: Iterable[Decision]) -> None:
        """Add one decision each for many records, as an import does: one write, but each is its own step of undo."""
        with self._writing(workspace):
            numbered = enumerate(decisions, self._number + 1)
            entries = (
                JournalEntry(n, (one.id,), (one.edit,), (one.name or self._name(workspace, one.id),), one.file)
                for n, one in numbered
            )
            self._write(workspace, *map(_line, entries))

    def names(self) -> dict[str, str]:
        """The files that the images had when they were last decided about, by the id of the original."""
        return {
            root_of(id): name
            for number in self._done
            for id, name in zip(self._entries[number].ids, self._entries[number].names, strict=False)
            if name
        }

    def caption_files(self) -> dict[str, str]:
        """By id, sha256 of the text of the caption file that the image's caption came from last."""
        entries = (self._entries[number] for number in self._done)
        return {id: entry.file for entry in entries if entry.file for id in entry.ids}

    def is_decided(self, id: str) -> bool:
        """Whether an entry in effect names an image, even one that takes decisions back."""
        return any(number in self._done for number in self._numbers.get(id, ()))

    def _name(self, workspace: Workspace, id: str) -> str:
        """The image's file, as the manifest of all images has it; empty if it does not have the image."""
        if self._sources is None:
            manifest = read_if_valid(workspace.manifest("sources"))
            columns = manifest.table(["id", "source"]).to_pydict() if manifest else {"id": [], "source": []}
            self._sources = dict(zip(columns["id"], columns["source"], strict=True))
        return self._sources.get(root_of(id), "")

    def undo(self, workspace: Workspace) -> JournalEntry | None:
        """Undo the last entry in effect, whichever process made it; None if there is none."""
        with self._writing(workspace):
            if not self._done:
                return None
            last = next(reversed(self._done))
            self._write(workspace, {"n": self._number + 1, "undo": last})
            return self._entries[last]

    def redo(self, workspace: Workspace) -> JournalEntry | None:
        """Redo the entry that was undone last; None if nothing was undone since the last entry."""
        with self._writing(workspace):
            if not self._undone:
                return None
            last = self._undone[-1]
            self._write(workspace, {"n": self._number + 1, "redo": last})
            return self._entries[last]

    def follow(self, workspace: Workspace) -> bool:
        """Read what other processes wrote since the last read; returns whether there was anything."""
        path = workspace.path(JOURNAL)
        size = path.stat().st_size if path.is_file() else 0
        if size < self._at:
            raise PrepError(f"{path} was shortened or deleted while prep used it.", "Run this command again.")
        if size == self._at:
            return False
        with path.open("rb") as file:
            file.seek(self._at)
            data = file.read()
        whole, newline, rest = data.rpartition(b"\n")
        before = self._number
        for line in whole.splitlines() if newline else ():
            self._apply(line, path)
        self._at += len(whole) + len(newline)
        if _is_complete(rest):  # some editors end files without a newline
            self._apply(rest, path)
            self._at += len(rest)
        elif rest:
            logging.getLogger(__name__).warning("%s: the last line is incomplete and is ignored.", JOURNAL)
        return self._number > before

    @contextmanager
    def _writing(self, workspace: Workspace) -> Iterator[None]:
        """Lock the journal for one write, after reading what others wrote."""
        from filelock import FileLock, Timeout

        workspace.cache.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(workspace.cache / "edits.lock", timeout=_LOCK_TIMEOUT):
                self.follow(workspace)
                yield
        except Timeout:
            raise PrepError(f"Another prep has locked {JOURNAL}.", "Wait until it ends, then try again.") from None

    def _write(self, workspace: Workspace, *lines: dict[str, Any]) -> None:
        """Append lines, after removing an incomplete last one, and sync them to disk."""
        path = workspace.path(JOURNAL)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = b"".join(json.dumps(x, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" for x in lines)
        with path.open("ab+") as file:
            file.truncate(self._at)
            file.seek(max(0, self._at - 1))
            complete = self._at == 0 or file.read(1) == b"\n"
            file.write(data if complete else b"\n" + data)
            file.flush()
            os.fsync(file.fileno())
        self.follow(workspace)

    def _apply(self, line: bytes, path: Path) -> None:
        """Apply one line of the journal."""
        if not line.strip():
            return
        try:
            plain = json.loads(line)
            number, undo, redo = plain["n"], plain.get("undo"), plain.get("redo")
            if type(number) is not int or number <= self._number:
                raise ValueError(f"its number {number!r} does not follow {self._number}")
            if undo is not None:
                self._done.pop(undo)
                self._undone.append(undo)
            elif redo is not None:
                self._undone.remove(redo)
                self._done[redo] = None
            else:
                edits = tuple(Edit(**edit) for edit in plain["edits"])
                names, file = tuple(map(str, plain.get("names", ()))), str(plain.get("file", ""))
                self._add(JournalEntry(number, tuple(plain["ids"]), edits, names, file))
        except (ValueError, KeyError, TypeError, AttributeError, PrepError, RecursionError) as error:
            raise PrepError(
                f"{path}: the line after number {self._number} cannot be read: {escape_control(first_line(error))}.",
                "Correct or delete that line; the others stay valid.",
            ) from None
        self._number = number

    def _add(self, entry: JournalEntry) -> None:
        if not all(isinstance(id, str) for id in entry.ids):
            raise ValueError("an id is not a text")
        self._entries[entry.number] = replace(entry, edits=tuple(one for e in entry.edits for one in split_edit(e)))
        self._done[entry.number] = None
        self._undone.clear()
        for id in entry.ids:
            self._numbers.setdefault(id, []).append(entry.number)


def _is_complete(line: bytes) -> bool:
    """Whether a line without newline is complete: a part of a JSON object is not valid JSON."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _line(entry: JournalEntry) -> dict[str, Any]:
    """An entry as the journal stores it, without what is unknown."""
    line = {"n": entry.number, "ids": list(entry.ids), "edits": list(map(_plain, entry.edits))}
    line |= {"names": list(entry.names)} if any(entry.names) else {}
    return line | ({"file": entry.file} if entry.file else {})


def _plain(edit: Edit) -> dict[str, str]:
    """An edit as the journal stores it, without empty fields."""
    return {name: value for name in ("what", "text", "other", "at") if (value := getattr(edit, name))}
