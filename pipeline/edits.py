"""What people decided about images: a journal of edits that survives re-tagging, with undo and redo without end."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pipeline.errors import PrepError, first_line
from pipeline.record import root_of
from pipeline.tag_text import escape_control, normalize_tag
from pipeline.workspace import Workspace

What = Literal["add", "remove", "replace", "set", "reset", "flag", "unflag", "drop", "restore"]
JOURNAL = "decisions/edits.jsonl"
BY_HAND = "dropped by hand"  # the reason in manifests
_WORDLESS = ("reset", "drop", "restore")
_PATIENCE = 30.0  # seconds to wait for another prep that is writing the journal; a write takes milliseconds


@dataclass(frozen=True, slots=True)
class Edit:
    """One decision about an image's caption, flags or place in the set.

    `add`, `remove` and `replace` concern the tag or sentence `text` (`replace` puts `other` in its place); `set`
    makes `text` the whole caption; `reset` forgets these four; `flag` and `unflag` concern the flag `text`.
    """

    what: What
    text: str = ""
    other: str = ""

    def __post_init__(self) -> None:
        if self.what not in get_args(What):
            raise PrepError(f"There is no edit {self.what!r}.", f"Known: {', '.join(get_args(What))}.")
        if not self.text.strip() and self.what not in (*_WORDLESS, "set"):
            raise PrepError(f"{self.what} names nothing.", "Say what, such as 'long hair'.")
        if self.what == "replace" and not self.other.strip():
            raise PrepError(f"replace does not say what comes in place of {self.text!r}.", "Use remove to take it out.")
        for text in () if self.what == "set" else (self.text, self.other):  # `set` is verbatim, as imports need it
            if not text.isprintable():  # captions are one line, and hidden characters train as nobody sees
                raise PrepError(f"{self.what}: {text!r} is not one plain line.", "Leave out what is escaped.")

    def __str__(self) -> str:
        """'add long hair', 'replace hat by cap': what the edit does, in words."""
        words = (self.what, self.text, f"by {self.other}" if self.other else "")
        return escape_control(" ".join(word for word in words if word))


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One line of the journal: what was decided at once about some images."""

    number: int
    ids: tuple[str, ...]
    edits: tuple[Edit, ...]


class Journal:
    """The journal of a workspace as far as it was read; appending, undoing and redoing write it at once.

    Several processes may write the same journal: each takes turns, and reads what the others wrote first.
    """

    def __init__(self) -> None:
        self._at = 0  # bytes read, up to the end of a whole line
        self._number = 0  # of the last line
        self._entries: dict[int, JournalEntry] = {}
        self._numbers: dict[str, list[int]] = {}  # entries that concern an id, in order
        self._done: dict[int, None] = {}  # entries that count, in order: the last is undone first
        self._undone: list[int] = []  # entries that can come back: the last comes first

    @classmethod
    def read(cls, workspace: Workspace) -> Journal:
        """The journal; empty if there is none. PrepError when a line that is not the last is damaged."""
        edits = cls()
        edits.follow(workspace)
        return edits

    def of(self, id: str) -> tuple[Edit, ...]:
        """The edits of a record that still have an effect, in order.

        An augmented copy 'id-k' has those of its root 'id', then its own. What a later edit made void is gone: all
        caption edits before `set` and `reset`, flags taken back, drops restored.
        """
        root = root_of(id)
        numbers = [n for owner in dict.fromkeys((root, id)) for n in self._numbers.get(owner, ()) if n in self._done]
        return effective(edit for n in numbers for edit in self._entries[n].edits) if numbers else ()

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids that edits were made for and still concern, sorted."""
        return tuple(sorted(id for id in self._numbers if self.of(id)))

    @property
    def digest(self) -> str:
        """sha256 over all that has an effect; empty if nothing has. An edit that was undone leaves no trace."""
        found = [(id, [(e.what, e.text, e.other) for e in self.of(id)]) for id in self.ids]
        return hashlib.sha256(json.dumps(found, ensure_ascii=False).encode()).hexdigest() if found else ""

    def owners(self, ids: Iterable[str]) -> list[str]:
        """For whom to write an edit of all these: not for copies that take it over from their root."""
        ids = dict.fromkeys(ids)
        return [id for id in ids if (root := root_of(id)) == id or root not in ids or self._own(id)]

    def copy(self) -> Journal:
        """The journal as it was read, which later edits leave alone."""
        twin = copy.copy(self)
        twin._entries, twin._done, twin._undone = dict(self._entries), dict(self._done), list(self._undone)
        twin._numbers = {id: list(numbers) for id, numbers in self._numbers.items()}
        return twin

    def supposing(self, ids: Iterable[str], edits: Iterable[Edit]) -> Journal:
        """The journal as it would be after an edit; writes nothing."""
        after = self.copy()
        after._number += 1
        after._add(JournalEntry(after._number, tuple(ids), tuple(edits)))
        return after

    def append(self, workspace: Workspace, ids: Iterable[str], edits: Iterable[Edit]) -> JournalEntry | None:
        """Decide `edits` for the records `ids`, as one step of undo; on disk when this returns.

        None, and nothing written, without ids or edits. What was undone before can no longer be redone.
        """
        ids, edits = list(dict.fromkeys(ids)), tuple(edits)
        if not ids or not edits:
            return None
        with self._writing(workspace):
            line = {"n": self._number + 1, "ids": ids, "edits": list(map(_plain, edits))}
            self._write(workspace, line)
            return self._entries[self._number]

    def append_each(self, workspace: Workspace, decisions: Iterable[tuple[str, Edit]]) -> None:
        """Decide one edit each for many records, as an import does: one write, a step of undo each."""
        with self._writing(workspace):
            numbered = enumerate(decisions, self._number + 1)
            self._write(workspace, *({"n": n, "ids": [id], "edits": [_plain(edit)]} for n, (id, edit) in numbered))

    def undo(self, workspace: Workspace) -> JournalEntry | None:
        """Take back the last entry that counts, whoever made it; None when there is none."""
        with self._writing(workspace):
            if not self._done:
                return None
            last = next(reversed(self._done))
            self._write(workspace, {"n": self._number + 1, "undo": last})
            return self._entries[last]

    def redo(self, workspace: Workspace) -> JournalEntry | None:
        """Bring back what was undone last; None when nothing was undone since the last entry."""
        with self._writing(workspace):
            if not self._undone:
                return None
            last = self._undone[-1]
            self._write(workspace, {"n": self._number + 1, "redo": last})
            return self._entries[last]

    def follow(self, workspace: Workspace) -> bool:
        """Read what was written since the last look; whether there was anything."""
        path = workspace.path(JOURNAL)
        size = path.stat().st_size if path.is_file() else 0
        if size < self._at:
            raise PrepError(f"{path} was shortened or deleted while prep used it.", "Start this command again.")
        if size == self._at:
            return False
        with path.open("rb") as file:
            file.seek(self._at)
            data = file.read()
        whole, newline, rest = data.rpartition(b"\n")
        before = self._number
        for line in whole.splitlines() if newline else ():
            self._take(line, path)
        self._at += len(whole) + len(newline)
        if _is_whole(rest):  # as an editor leaves it that ends files without a newline
            self._take(rest, path)
            self._at += len(rest)
        elif rest:
            logging.getLogger(__name__).warning("%s: its last line was not written whole and is ignored.", JOURNAL)
        return self._number > before

    @contextmanager
    def _writing(self, workspace: Workspace) -> Iterator[None]:
        """Hold the journal for one write, with everything read that others wrote."""
        from filelock import FileLock, Timeout

        workspace.cache.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(workspace.cache / "edits.lock", timeout=_PATIENCE):
                self.follow(workspace)
                yield
        except Timeout:
            raise PrepError(f"Another prep keeps {JOURNAL} to itself.", "End it, then try again.") from None

    def _write(self, workspace: Workspace, *lines: dict[str, Any]) -> None:
        """Append whole lines, after cutting off a torn one, and wait until the disk has it."""
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

    def _take(self, line: bytes, path: Path) -> None:
        """Let one line of the journal count."""
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
                self._add(JournalEntry(number, tuple(plain["ids"]), tuple(Edit(**edit) for edit in plain["edits"])))
        except (ValueError, KeyError, TypeError, AttributeError, PrepError, RecursionError) as error:
            raise PrepError(
                f"{path}: the line after number {self._number} cannot be read: {escape_control(first_line(error))}.",
                "Mend that line or delete it; the others stay.",
            ) from None
        self._number = number

    def _own(self, id: str) -> bool:
        return any(number in self._done for number in self._numbers.get(id, ()))

    def _add(self, entry: JournalEntry) -> None:
        if not all(isinstance(id, str) for id in entry.ids):
            raise ValueError("an id is no text")
        self._entries[entry.number] = entry
        self._done[entry.number] = None
        self._undone.clear()
        for id in entry.ids:
            self._numbers.setdefault(id, []).append(entry.number)


def _is_whole(line: bytes) -> bool:
    """Whether a line without its newline was written to its end: no part of a JSON object is one."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def effective(edits: Iterable[Edit]) -> tuple[Edit, ...]:
    """Of edits in order, those that later ones did not make void: caption edits in order, then flags, then a drop."""
    caption: list[Edit] = []
    flags: dict[str, Edit] = {}
    dropped: list[Edit] = []
    for edit in edits:
        if edit.what in ("set", "reset"):
            caption = [edit] if edit.what == "set" else []
        elif edit.what in ("flag", "unflag"):
            flags.pop(normalize_tag(edit.text), None)
            flags |= {normalize_tag(edit.text): edit} if edit.what == "flag" else {}
        elif edit.what in ("drop", "restore"):
            dropped = [edit] if edit.what == "drop" else []
        else:
            caption = _with(caption, edit)
    return (*caption, *(flags[name] for name in sorted(flags)), *dropped)


def reworded(caption: str, edits: Iterable[Edit]) -> str:
    """A caption that was set by hand, after the tags added, removed and replaced since: its parts end at commas."""
    parts = [part.strip() for part in caption.split(",")]
    for edit in edits:
        old = normalize_tag(edit.text)
        if edit.what == "add" and old not in map(normalize_tag, parts):
            parts = [*filter(None, parts), edit.text]
        elif edit.what == "remove" and old in map(normalize_tag, parts):
            parts = [part for part in parts if normalize_tag(part) != old]
        elif edit.what == "replace" and old in map(normalize_tag, parts):
            parts = list(dict.fromkeys(edit.other if normalize_tag(part) == old else part for part in parts))
        else:
            continue
        caption = ", ".join(parts)
    return caption


def _with(caption: list[Edit], edit: Edit) -> list[Edit]:
    """Caption edits with one more: of adding and removing the same tag only the last counts.

    Not across a `replace` or `set`, which may have used the tag in between.
    """
    if edit.what == "replace":
        return [*caption, edit]
    start = max((n for n, e in enumerate(caption, 1) if e.what in ("replace", "set")), default=0)
    return [*caption[:start], *(e for e in caption[start:] if normalize_tag(e.text) != normalize_tag(edit.text)), edit]


def _plain(edit: Edit) -> dict[str, str]:
    """An edit as the journal has it: only what it says."""
    return {name: value for name in ("what", "text", "other") if (value := getattr(edit, name))}
