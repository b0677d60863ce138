"""Folders that others laid out, as kohya's reader sees them: what it ignores, misreads or stops at."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.checks.finding import Severity
from pipeline.errors import PrepError
from pipeline.imaging.decode import is_image_name
from pipeline.tag_text import escape_control
from stages.building.layout import DatasetFolder, parse_folder_name

READ = (".png", ".jpg", ".jpeg", ".webp", ".bmp")  # what kohya's reader finds, all small or all capital letters
ENDINGS = (".txt", ".caption")
_JUNK = ("__MACOSX", "@eaDir")
_BOM = "\ufeff"


@dataclass(frozen=True, slots=True)
class ReaderFault:
    """Something that the reader does with a file or folder and that people do not expect."""

    severity: Severity
    rule: str
    message: str
    fix: str
    path: Path | None = None  # None: the set as a whole


@dataclass(frozen=True, slots=True)
class KohyaItem:
    """An image that the reader would train on, and the caption it would read."""

    path: Path
    shelf: DatasetFolder
    caption: str


@dataclass(frozen=True, slots=True)
class KohyaFolder:
    """A folder of images and what its name says."""

    path: Path
    shelf: DatasetFolder


def places(folder: Path) -> Iterator[KohyaFolder | ReaderFault]:
    """The folders that the reader would take, and what keeps it from taking others.

    `folder` is the parent of such as '10_smith man', or the parent of such parents (train_x and reg_x, img and reg).
    PrepError when it is no folder.
    """
    if not folder.is_dir():
        raise PrepError(f"The folder {folder} does not exist.", "Name the parent of folders such as '10_smith man'.")
    children = _folders(folder)
    if any(parse_folder_name(f"{folder.name}/{child.name}") for child in children):
        yield from _children(folder)
        return
    parents = [child for child in children if any(parse_folder_name(f"x/{below.name}") for below in _folders(child))]
    for parent in parents:
        yield from _children(parent)
    if not parents:
        yield from _alone(folder, children)


def _children(parent: Path) -> Iterator[KohyaFolder | ReaderFault]:
    for child in _folders(parent):
        shelf = parse_folder_name(f"{parent.name}/{child.name}")
        if shelf is not None:
            yield KohyaFolder(child, shelf)
        elif _images(child):
            number = child.name.partition("_")[0]
            silent = number.lstrip("-").isdecimal() and int(number) < 1
            why = "its repeats are less than 1, and the reader says nothing of it" if silent else "no number leads it"
            yield ReaderFault(
                "error",
                "folder ignored",
                f"The reader leaves the whole folder out: {why}.",
                "Name it REPEATS_token class, such as '10_smith man'",
                child,
            )


def _alone(folder: Path, children: list[Path]) -> Iterator[KohyaFolder | ReaderFault]:
    """One level too low or too high: what is there is looked at all the same."""
    shelf = parse_folder_name(f"{folder.parent.name}/{folder.name}")
    if shelf is None and not _images(folder):
        raise PrepError(
            f"{folder} has no folder such as '10_smith man'.",
            "Name the parent of such folders."
            + (
                " None of its folders begins with a number: 10_ in front of one makes it shown ten times."
                * bool(children)
            ),
        )
    said = f"{escape_control(folder.name)} itself is a folder of images" if shelf else "the images lie directly in it"
    yield ReaderFault(
        "error",
        "wrong folder level",
        f"The reader finds nothing here: {said}, and it looks one level below.",
        f"Name its parent: {folder.parent}" if shelf else "Put them into a folder such as '10_smith man'",
    )
    yield KohyaFolder(folder, shelf or DatasetFolder("train", 1, "", ""))


def contents(place: KohyaFolder, ending: str) -> Iterator[KohyaItem | ReaderFault]:
    """The images of one folder with their captions, and all that the reader ignores or misreads in it."""
    files = sorted(path for path in place.path.iterdir() if path.is_file() and not path.name.startswith("."))
    for below in _folders(place.path):
        if _images(below):
            yield _fault("folder below", below)
    seen = [path for path in files if path.suffix in (*READ, *map(str.upper, READ))]
    yield from (_fault("image not read", path) for path in files if is_image_name(path.name) and path not in set(seen))
    stems = Counter(path.stem for path in seen)
    yield from (_fault("same name", path) for path in seen if stems[path.stem] > 1)
    captions = {path.name: path for path in files if not is_image_name(path.name)}
    bare = sum(f"{path.stem}{ending}" not in captions for path in seen)
    for path in seen:
        caption = place.shelf.text
        if (file := captions.get(path.stem + ending)) is not None:
            for found in _caption(file):
                if isinstance(found, str):
                    caption = found
                else:
                    yield found
        elif (other := _elsewhere(path, ending, captions)) is not None:
            yield other
        elif bare < len(seen):
            yield _fault("caption missing", path)
        yield KohyaItem(path, place.shelf, caption)
    if seen and bare == len(seen) and not any(Path(name).suffix in ENDINGS for name in captions):
        yield _fault("no captions", place.path)
    for name, path in captions.items():
        if path.suffix == ending and path.stem not in stems:
            yield _fault("caption of nothing", path)
        elif path.suffix == ".npz" or name == "metadata_cache.json":
            yield _fault("old cache", path)


def ending_of(found: list[KohyaFolder]) -> str:
    """The extension that most captions have: what the reader would be told."""
    counts = Counter(path.suffix for place in found for path in place.path.iterdir() if path.suffix in ENDINGS)
    return max(ENDINGS, key=lambda ending: counts[ending])


def _caption(file: Path) -> Iterator[str | ReaderFault]:
    """What the reader takes a caption file for, and what is odd about it."""
    data = file.read_bytes()
    if not data:
        yield _fault("caption file empty", file)
        return
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        yield _fault("caption not UTF-8", file)
        return
    if text.startswith(_BOM):
        yield _fault("byte order mark", file)
    lines = text.removeprefix(_BOM).split("\n")
    if any(line.strip() for line in lines[1:]):
        yield _fault("second line" if lines[0].strip() else "first line empty", file)
    yield lines[0].strip()


def _elsewhere(image: Path, ending: str, captions: dict[str, Path]) -> ReaderFault | None:
    """Where the caption of an image without one may be: under another extension, or that of another image."""
    lower: dict[str, Path] = defaultdict(Path, {name.lower(): path for name, path in captions.items()})
    for name in (image.stem + end for end in (*ENDINGS, ".json")):
        if name in captions or name.lower() in lower:
            return _fault("other extension", captions.get(name, lower[name.lower()]))
    # A rule for names that a face detector made: kohya drops the last four parts of the whole path, cut at '_'.
    parts = str(image.absolute().with_suffix("")).split("_")
    if len(parts) >= 5 and Path("_".join(parts[:-4]) + ending).is_file():
        return _fault("borrowed caption", image)
    return None


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    return [folder / name for name in sorted(names) if name not in _JUNK]


def _images(folder: Path) -> bool:
    return any(is_image_name(path.name) for path in folder.iterdir())


def _fault(rule: str, path: Path) -> ReaderFault:
    severity, message, fix = FAULTS[rule]
    return ReaderFault(severity, rule, message, fix, path)


_TXT = "Rename them all to one extension, and tell the reader: --caption_extension .txt"
FAULTS: dict[str, tuple[Severity, str, str]] = {
    "folder below": (
        "warning",
        "The reader does not look into a folder below '10_smith man': its images are not trained on.",
        "Move its images up, or beside as a folder with repeats of its own",
    ),
    "image not read": (
        "warning",
        "The reader does not find this image: it knows .png .jpg .jpeg .webp .bmp, in small or in capital letters.",
        "Convert or rename it, or let prep take it: prep import",
    ),
    "same name": (
        "error",
        "Images differ in their extension alone: they share one caption and one cached latent.",
        "Rename one of them",
    ),
    "caption missing": (
        "warning",
        "The image has no caption, while others have: the folder's name is read instead.",
        "Write a caption beside it",
    ),
    "no captions": ("note", "No image has a caption: the folder's name is read for all of them.", ""),
    "caption of nothing": ("note", "The caption belongs to no image.", "Rename it after its image"),
    "caption file empty": ("error", "The caption file is empty, and the reader stops at it.", "Write it or delete it"),
    "caption not UTF-8": (
        "error",
        "The caption is not UTF-8, and the reader stops at it.",
        "Save it as UTF-8 without a byte order mark",
    ),
    "byte order mark": (
        "warning",
        "A byte order mark begins the caption, and is read as part of its first tag: the trigger is another word.",
        "Save it as UTF-8 without a byte order mark",
    ),
    "second line": (
        "warning",
        "The caption has more than one line; all but the first are ignored, unless wildcards are on.",
        "Write it on one line",
    ),
    "first line empty": (
        "error",
        "The caption's first line is empty, so that the caption is; the text below is ignored.",
        "Write it on the first line",
    ),
    "other extension": (
        "warning",
        "The caption has another extension than most, and is not read: the folder's name is read instead.",
        _TXT,
    ),
    "borrowed caption": (
        "warning",
        "The image has no caption and a name of five parts with '_' between: the reader takes that of another one.",
        "Write a caption beside it, or name it without '_'",
    ),
    "old cache": (
        "warning",
        "A cache of the trainer's lies here: it is believed whatever became of image and caption.",
        "Delete it before training",
    ),
}
