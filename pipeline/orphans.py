"""Finds decisions that no longer apply: of images that were changed since, and captions whose files were changed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.edits import Edit
from pipeline.journal import Journal
from pipeline.kohya_folders import CAPTION_EXTENSIONS
from pipeline.manifest import Manifest, read_if_valid
from pipeline.record import root_of
from pipeline.tag_text import escape_control
from pipeline.text_files import TextFault, read_text
from pipeline.workspace import Workspace

_NAMED = 3  # images that a line names


@dataclass(frozen=True, slots=True)
class Orphan:
    """Decisions about an image whose content is in no folder any more: ids come from the content."""

    id: str  # of the image, or of a copy of it
    name: str  # its file, when it was decided about; empty if that is not known
    edits: tuple[Edit, ...]
    new_id: str  # of the image that has the file's name now, and no decision of its own; empty if there is none
    file: str = ""  # sha256 of the text of the caption file that its caption came from; empty if from none


@dataclass(frozen=True, slots=True)
class ChangedCaption:
    """An image whose imported caption comes from a file that has another text now."""

    id: str
    name: str
    text: str
    fault: str = ""  # why the file cannot be read any more


def image_sources(manifest: Manifest) -> dict[str, str]:
    """The file of every image by its id; without files that hold the same as another."""
    table = manifest.table(["id", "source", "drop.reason"]).to_pylist()
    return {row["id"]: row["source"] for row in table if row["drop"] is None}


def find_orphans(journal: Journal, sources: Mapping[str, str]) -> Iterator[Orphan]:
    """Decisions in effect about images that are not among `sources`, files by id; by id.

    A file is found again by its path or, where that is unique, by its name alone.
    """
    names, files = journal.names(), journal.caption_files()
    by_path = {source: id for id, source in sources.items()}
    counts = Counter(PurePosixPath(source).name for source in sources.values())
    by_name = {name: id for source, id in by_path.items() if counts[name := PurePosixPath(source).name] == 1}
    for id in journal.ids:
        if (root := root_of(id)) in sources:
            continue
        name = names.get(root, "")
        new = by_path.get(name) or by_name.get(PurePosixPath(name).name, "") if name else ""
        if new and journal.is_decided(new):
            continue  # people decided about the new one already
        yield Orphan(id, name, journal.of(id), new and new + id[len(root) :], files.get(id, ""))


def changed_captions(journal: Journal, workspace: Workspace, sources: Mapping[str, str]) -> Iterator[ChangedCaption]:
    """Imported captions whose files, next to the images, have another text than when they were last read."""
    for id, digest in journal.caption_files().items():
        if (source := sources.get(id)) is None:
            continue
        try:
            text = caption_beside(workspace.source(source))
        except TextFault as fault:
            yield ChangedCaption(id, source, "", str(fault))
            continue
        if text is not None and text_digest(text) != digest:
            yield ChangedCaption(id, source, text)


def unapplied_decisions(workspace: Workspace) -> str:
    """The decisions that `prep adopt` would make apply again, in a few words; empty if there are none."""
    manifest, journal = read_if_valid(workspace.manifest("sources")), Journal.read(workspace)
    if manifest is None or not journal.ids:
        return ""
    sources = image_sources(manifest)
    orphans = dict.fromkeys(one.name for one in find_orphans(journal, sources) if one.new_id)
    files = dict.fromkeys(one.name for one in changed_captions(journal, workspace, sources))
    parts = [f"decisions about {_listed(orphans)} are of an earlier version of the image"] if orphans else []
    parts += [f"the imported captions of {_listed(files)} have changed files"] if files else []
    return "; ".join(parts)


def _listed(paths: Iterable[str]) -> str:
    names = [escape_control(PurePosixPath(path).name) for path in paths]
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")


def caption_beside(image: Path) -> str | None:
    """The text of an image's caption file, without its final line end; None if there is none."""
    for extension in CAPTION_EXTENSIONS:
        file = image.with_suffix(extension)
        if file.is_file():
            return read_text(file).rstrip("\r\n")
    return None


def text_digest(text: str) -> str:
    """sha256 of a caption file's text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
