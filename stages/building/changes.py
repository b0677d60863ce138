"""Finds what people changed by hand in dataset/ since prep built it: captions and images."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pipeline.imaging.decode import is_image_name
from pipeline.journal import Journal
from pipeline.kohya_folders import CAPTION_EXTENSIONS
from pipeline.manifest import Manifest
from pipeline.plural import counted
from pipeline.record import ROOT_LENGTH
from pipeline.text_files import TextFault, read_text
from pipeline.workspace import Workspace, file_sha256

_RACY_NS = 2_000_000_000  # a file changed this shortly before its build ended is read all the same
_COLUMNS = ["id", "source", "role", "dataset_path", "caption", "image"]


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image as prep built it."""

    id: str
    source: str
    role: str
    path: str  # in the dataset, relative to the workspace
    caption: str
    image: str  # its file in images/, relative to the workspace
    file_sha256: str


@dataclass(frozen=True, slots=True)
class RewrittenCaption:
    """An image whose caption file has another text than prep wrote, or is not readable any more."""

    image: BuiltImage
    text: str
    fault: str = ""  # why the file cannot be read


@dataclass(frozen=True, slots=True)
class HandChanges:
    """What is different in dataset/; what the journal of edits says already is no change."""

    captions: tuple[RewrittenCaption, ...] = ()
    uncaptioned: tuple[BuiltImage, ...] = ()  # the caption file was deleted
    deleted: tuple[BuiltImage, ...] = ()
    replaced: tuple[BuiltImage, ...] = ()  # the image file has another content
    moved: tuple[BuiltImage, ...] = ()  # to another folder of the dataset
    added: tuple[str, ...] = ()  # paths of images that prep did not write, relative to the workspace

    def __bool__(self) -> bool:
        return any((self.captions, self.uncaptioned, self.deleted, self.replaced, self.moved, self.added))

    def __str__(self) -> str:
        """'2 captions rewritten, 1 image deleted'."""
        counts = (
            (self.captions, "caption", "rewritten"),
            (self.uncaptioned, "caption", "deleted"),
            (self.deleted, "image", "deleted"),
            (self.replaced, "image", "replaced"),
            (self.moved, "image", "moved"),
            (self.added, "image", "added"),
        )
        return ", ".join(f"{counted(len(found), noun)} {verb}" for found, noun, verb in counts if found)


def find_changes(manifest: Manifest, workspace: Workspace, journal: Journal) -> HandChanges:
    """What was changed in dataset/ since build wrote `manifest`; nothing if the folder is gone as a whole.

    Lists folders and compares sizes, times and links; reads only what may differ. PrepError if the manifest is damaged.
    """
    if not workspace.dataset.is_dir():
        return HandChanges()
    build = next((step for step in reversed(manifest.history) if step.stage == "build"), None)
    extension = str(build.params["caption_extension"]) if build else ".txt"
    built = list(_built_images(manifest))
    present = dict(_files(workspace))
    expected = {image.path for image in built}
    others = (path for path in present if path not in expected and not path.endswith(CAPTION_EXTENSIONS))
    added = set(filter(is_image_name, others))
    newest = manifest.path.stat().st_mtime_ns - _RACY_NS  # files older than this are as build left them
    captions, uncaptioned, deleted, replaced, moved = [], [], [], [], []
    for image in built:
        edits, path = journal.of(image.id), image.path
        if path not in present:
            path = next((other for other in added if PurePosixPath(other).name == PurePosixPath(path).name), "")
            if path:
                moved.append(image)
                added.remove(path)
            elif all(edit.what != "drop" for edit in edits):
                deleted.append(image)
        if not path:
            continue
        if _is_replaced(image, path, present[path], workspace, newest):
            replaced.append(image)
        caption = str(PurePosixPath(path).with_suffix(extension))
        if caption not in present:
            uncaptioned.append(image)
        elif (change := _rewritten(image, workspace.path(caption), present[caption], newest)) and (
            change.fault or journal.with_caption(image.id, image.caption) != change.text
        ):
            captions.append(change)
    return HandChanges(
        tuple(captions), tuple(uncaptioned), tuple(deleted), tuple(replaced), tuple(moved), tuple(sorted(added))
    )


def without_sources(changes: HandChanges, ids: Collection[str], workspace: Workspace) -> HandChanges:
    """The changes without added images that are among the user's images by now, whose ids these are."""
    added = (path for path in changes.added if file_sha256(workspace.path(path))[:ROOT_LENGTH] not in ids)
    return replace(changes, added=tuple(added))


def _built_images(manifest: Manifest) -> Iterator[BuiltImage]:
    for table in manifest.tables(_COLUMNS):
        for row in table.to_pylist():
            if row["dataset_path"] and row["image"]:
                yield BuiltImage(
                    row["id"],
                    row["source"],
                    row["role"],
                    row["dataset_path"],
                    row["caption"].rstrip("\r\n"),
                    row["image"]["path"],
                    row["image"]["file_sha256"],
                )


def _files(workspace: Workspace) -> Iterator[tuple[str, os.stat_result]]:
    """The files of dataset/ with their sizes and times, by path relative to the workspace; hidden ones are left out."""
    for folder, names, files in os.walk(workspace.dataset):
        names[:] = [name for name in names if not name.startswith(".")]
        for name in files:
            path = Path(folder) / name
            if not name.startswith(".") and path.is_file():
                yield workspace.relative(path), path.stat()


def _is_replaced(image: BuiltImage, path: str, at: os.stat_result, workspace: Workspace, newest: int) -> bool:
    """Whether an image's file has another content; only what is no link to prep's own file, or is newer, is read."""
    own = workspace.path(image.image)
    same_file = own.is_file() and os.path.samestat(own.stat(), at)
    if not same_file and own.is_file() and own.stat().st_size != at.st_size:
        return True
    return at.st_mtime_ns > newest and file_sha256(workspace.path(path)) != image.file_sha256


def _rewritten(image: BuiltImage, path: Path, at: os.stat_result, newest: int) -> RewrittenCaption | None:
    """The change of a caption file; None if its text is as prep wrote it, whatever its line ends and encoding."""
    written = len(image.caption.encode()) or 1
    if at.st_size == written and at.st_mtime_ns <= newest:
        return None
    try:
        text = read_text(path).rstrip("\r\n")
    except TextFault as fault:
        return RewrittenCaption(image, "", f"{path.name} {fault}")
    return None if text == image.caption else RewrittenCaption(image, text)


def named(images: Iterable[BuiltImage], most: int = 3) -> str:
    """The file names of images: 'a.png, b.png and 3 more'."""
    names = sorted({image.source.rpartition("/")[2] for image in images})
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
