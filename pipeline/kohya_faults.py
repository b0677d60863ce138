"""What kohya's trainer leaves out or misreads in a dataset folder, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.tag_text import escape_control


@dataclass(frozen=True, slots=True)
class ReaderFault:
    """Something that the reader does with a file or folder and that people do not expect."""

    rule: str  # a key of FAULTS
    path: Path

    @property
    def severity(self) -> Literal["error", "warning", "note"]:
        return FAULTS[self.rule].severity

    @property
    def message(self) -> str:
        return FAULTS[self.rule].message

    @property
    def hint(self) -> str:
        return FAULTS[self.rule].hint.format(path=escape_control(str(self.path)), parent=_shown(self.path.parent))


@dataclass(frozen=True, slots=True)
class FaultText:
    """How bad a fault is, what happens, and what to do; {path} and {parent} are filled in."""

    severity: Literal["error", "warning", "note"]
    message: str
    hint: str = ""


def summarize(faults: Iterable[ReaderFault], root: Path) -> Iterator[str]:
    """A sentence for each kind of fault, with the first file or folder that has it; notes are left out."""
    by_rule: dict[str, list[ReaderFault]] = {}
    for fault in faults:
        by_rule.setdefault(fault.rule, []).append(fault)
    for same in by_rule.values():
        if same[0].severity != "note":
            path = same[0].path
            name = path.relative_to(root) if path.is_relative_to(root) and path != root else path.name
            more = f" and {len(same) - 1:,} more" if len(same) > 1 else ""
            yield f"{escape_control(str(name))}{more}: {same[0].message}"


def _shown(path: Path) -> str:
    return escape_control(str(path))


_RENAME = "Give all captions one extension."
_UTF8 = "Save it as UTF-8 without a byte order mark."
FAULTS: dict[str, FaultText] = {
    "folder ignored": FaultText(
        "error",
        "The folder is not read: its name does not begin with its repeats, as 10_ does.",
        "Name it REPEATS_token class, such as '10_smith man'.",
    ),
    "repeats below 1": FaultText(
        "error",
        "The folder is not read: its repeats are less than 1. kohya's trainer reports nothing.",
        "Name it REPEATS_token class, such as '10_smith man'.",
    ),
    "sibling not read": FaultText(
        "warning",
        "The folder next to the one you named is not read.",
        "To read both, name their parent: {parent}",
    ),
    "parent not named": FaultText(
        "error",
        "No folder of images is found: this is one itself, and the trainer looks one level below.",
        "Name its parent: {parent}",
    ),
    "no folder of images": FaultText(
        "error",
        "No folder of images is found: the images are in the parent folder itself.",
        "Move them into a folder such as '10_smith man'.",
    ),
    "folder below": FaultText(
        "warning",
        "The folder is not read: folders below '10_smith man' are not looked into.",
        "Move its images up, or the folder itself, with repeats in its name.",
    ),
    "image not read": FaultText(
        "warning",
        "The image is not read: its extension is not .png, .jpg, .jpeg, .webp or .bmp, in all small or all capitals.",
        "Rename or convert it.",
    ),
    "mask": FaultText(
        "warning",
        "The file is the mask of another image, by its name: prep does not train on it, but kohya's trainer does.",
        "To use it: prep train --masks FOLDER; for kohya's trainer move it into a folder of its own.",
    ),
    "same name": FaultText(
        "error",
        "Images differ only in their extensions: they share one caption and one cached latent.",
        "Rename one of them.",
    ),
    "caption missing": FaultText(
        "warning",
        "The image has no caption, while others have one: the folder's name becomes its caption.",
        "Write its caption file.",
    ),
    "no captions": FaultText("note", "No image has a caption: the folder's name becomes the caption of all."),
    "caption of nothing": FaultText("note", "The caption belongs to no image.", "Rename it after its image."),
    "caption file empty": FaultText(
        "error", "The caption file is empty, and kohya's trainer stops at it.", "Write a caption, or delete the file."
    ),
    "caption not UTF-8": FaultText(
        "error", "The caption is not UTF-8: the image cannot be trained on, and kohya's trainer stops at it.", _UTF8
    ),
    "caption UTF-16": FaultText(
        "warning", "The caption is UTF-16 or UTF-32: prep reads it, but kohya's trainer stops at it.", _UTF8
    ),
    "byte order mark": FaultText(
        "warning",
        "The caption begins with a byte order mark, which kohya's trainer reads as part of its first tag: "
        "the trigger is another word.",
        _UTF8,
    ),
    "second line": FaultText(
        "warning",
        "The caption has more than one line: only the first is trained on, unless wildcards are on.",
        "Write it on one line.",
    ),
    "first line empty": FaultText(
        "error",
        "The caption's first line is empty, so the caption is: the text below is not trained on.",
        "Write it on the first line.",
    ),
    "other extension": FaultText(
        "warning",
        "The caption is not read, because most captions have another extension: the folder's name becomes the caption.",
        _RENAME,
    ),
    "borrowed caption": FaultText(
        "warning",
        "The image has no caption, and a name of five parts joined by '_': kohya's trainer gives it the caption of "
        "another image.",
        "Write its caption file, or rename it without '_'.",
    ),
    "old cache": FaultText(
        "warning",
        "This is a cache of kohya's trainer, which uses it even when the image or its caption has changed since.",
        "Delete it before training.",
    ),
}
