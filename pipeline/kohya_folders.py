"""Reads folders of kohya's layout: `train_x/10_smith man/a.png` with a.txt, `reg_x/1_man/`, `val_x/1_smith man/`.

The one reader of this layout: `prep train --data`, `prep plan --data`, `prep check FOLDER` and `prep import` all
use it. It takes the images, repeats and captions that kohya's sd-scripts take (`DreamBoothDataset` in
library/train_util.py, folder names in library/config_util.py), and reports as a ReaderFault whatever that leaves
out or misreads.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.imaging.decode import is_image_name
from pipeline.imaging.mask_files import image_stems, is_mask
from pipeline.kohya_faults import ReaderFault
from pipeline.record import Role
from pipeline.tag_text import escape_control
from pipeline.text_files import TextFault, byte_order_mark, decode_text

IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")  # kohya's, in all small or all capital letters
CAPTION_EXTENSIONS = (".txt", ".caption")
JUNK_FOLDERS = ("__MACOSX", "@eaDir")  # copies that archivers and NAS boxes leave behind
_ROLES: tuple[Role, ...] = ("train", "val", "reg")
_TRAINING_PARENTS = ("train", "img")  # usual names of the parent whose siblings hold reg and val images
_NAME_HINT = "Name the parent of folders such as '10_smith man'."


@dataclass(frozen=True, slots=True)
class DatasetFolder:
    """What the name of a dataset folder says: `train_x/10_smith man`, `reg_x/1_man`, `val_x/1_smith man`.

    A subject whose token is its class is written once: `10_1girl`.
    """

    role: Role
    repeats: int
    token: str  # empty for regularization
    class_name: str

    @property
    def text(self) -> str:
        """The caption that kohya's trainer gives images without a caption file: 'smith man'."""
        return " ".join(dict.fromkeys(filter(None, (self.token, self.class_name))))

    def path(self, dataset_name: str) -> str:
        """The folder's path in a dataset called `dataset_name`."""
        return f"{self.role}_{dataset_name}/{self.repeats}_{self.text}"


def parse_folder_name(folder: str) -> DatasetFolder | None:
    """What a path such as 'train_x/10_smith man' says; None for a folder that kohya's trainer ignores.

    The first word is the token and the rest the class; one word is both. A parent whose name begins with reg or val
    has that role, any other is for training.
    """
    parent, _, name = folder.rpartition("/")
    match = re.fullmatch(r"([0-9]{1,9})(?:_(.*))?", name, re.DOTALL)
    if match is None or not int(match[1]):
        return None
    text = match[2] or ""
    parent_name = parent.rpartition("/")[2]
    role: Role = next((role for role in _ROLES if re.match(rf"{role}(?![a-z])", parent_name)), "train")
    if role == "reg":
        return DatasetFolder(role, int(match[1]), "", text)
    token, _, class_name = text.partition(" ")
    return DatasetFolder(role, int(match[1]), token, class_name or token)


def distinct_tokens(folders: Iterable[DatasetFolder]) -> dict[DatasetFolder, DatasetFolder]:
    """The folders with tokens that tell subjects apart.

    Two subjects whose names begin with the same word, such as 'red car' and 'red house', get their whole names as
    token and class.
    """
    folders = list(dict.fromkeys(folders))
    texts = {(folder.token, folder.text) for folder in folders if folder.role != "reg"}
    shared = {token for token, count in Counter(token for token, _ in texts).items() if count > 1}
    return {
        folder: replace(folder, token=folder.text, class_name=folder.text)
        if folder.role != "reg" and folder.token in shared
        else folder
        for folder in folders
    }


@dataclass(frozen=True, slots=True)
class KohyaFolder:
    """A folder of images and what its name says."""

    path: Path
    spec: DatasetFolder


@dataclass(frozen=True, slots=True)
class KohyaImage:
    """An image that is trained on."""

    path: Path
    spec: DatasetFolder
    caption: str | None  # the caption file's text without byte order mark and final line end; None: no caption
    caption_error: str = ""  # why the caption file cannot be read: such an image cannot be trained on

    @property
    def text(self) -> str:
        """The caption that is trained on without wildcards: the file's first line, or the folder's text."""
        return self.spec.text if self.caption is None else caption_lines(self.caption)[0]


def caption_lines(caption: str) -> list[str]:
    """The lines of a caption without surrounding spaces; the first is trained on, or with wildcards any."""
    return [line.strip() for line in caption.replace("\r\n", "\n").replace("\r", "\n").split("\n")]


def find_folders(root: Path, role: Role | None = None) -> Iterator[KohyaFolder | ReaderFault]:
    """The folders of images that are trained on, and a fault for each that is left out.

    `root` is the parent of folders such as '10_smith man', or the parent of such parents (train_x and reg_x, img and
    reg). `role` replaces what the parents' names say. PrepError when `root` has no such folder.
    """
    if not root.is_dir():
        raise PrepError(f"The folder {root} does not exist.", _NAME_HINT)
    children = subfolders(root)
    if any(map(_is_dataset_folder, children)):
        found = [*_children(root), *_siblings(root, role)]
    else:
        found = [item for child in children if _is_parent(child) for item in _children(child)]
    if not found:
        found = list(_wrong_level(root, children))
    specs = distinct_tokens(item.spec for item in found if isinstance(item, KohyaFolder))
    for item in found:
        if isinstance(item, KohyaFolder):
            spec = specs[item.spec]
            forced = DatasetFolder("reg", spec.repeats, "", spec.text) if role == "reg" else spec
            yield KohyaFolder(item.path, forced)
        else:
            yield item


def find_captions(folders: Sequence[KohyaFolder]) -> str:
    """The caption extension that most captions have; kohya's trainer reads captions of one extension alone."""
    counts = Counter(path.suffix for folder in folders for path in folder.path.iterdir())
    return max(CAPTION_EXTENSIONS, key=lambda extension: counts[extension])


def read_folder(folder: KohyaFolder, extension: str) -> Iterator[KohyaImage | ReaderFault]:
    """The images of one folder with their captions, and a fault for all that is left out or misread in it."""
    files = sorted(path for path in folder.path.iterdir() if path.is_file() and not path.name.startswith("."))
    for below in subfolders(folder.path):
        if has_images(below):
            yield ReaderFault("folder below", below)
    stems_here = image_stems([path.name for path in files])
    masks = {path for path in files if is_image_name(path.name) and is_mask(path, stems_here)}
    yield from (ReaderFault("mask", path) for path in sorted(masks))
    images = [path for path in files if is_kohya_image(path) and path not in masks]
    captions = {path.name: path for path in files if not is_image_name(path.name)}
    stems = Counter(path.stem for path in images)
    for path in files:
        if is_image_name(path.name) and not is_kohya_image(path) and path not in masks:
            yield ReaderFault("image not read", path)
    yield from (ReaderFault("same name", path) for path in images if stems[path.stem] > 1)
    any_caption = any(path.stem + extension in captions for path in images)
    for path in images:
        file = captions.get(path.stem + extension)
        if file is not None:
            image, faults = _captioned(path, folder.spec, file)
            yield from faults
            yield image
            continue
        elsewhere = _caption_elsewhere(path, extension, captions)
        if elsewhere is not None:
            yield elsewhere
        elif any_caption:
            yield ReaderFault("caption missing", path)
        yield KohyaImage(path, folder.spec, None)
    yield from _other_files(folder, extension, captions, stems)


def read_all(folders: Sequence[KohyaFolder], extension: str = "") -> Iterator[KohyaImage | ReaderFault]:
    """The images and faults of several folders; an empty `extension` stands for the one that most captions have."""
    extension = extension or find_captions(folders)
    for folder in folders:
        yield from read_folder(folder, extension)


def subfolders(folder: Path) -> list[Path]:
    """The folders of a folder by name, without hidden ones and junk."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    return [folder / name for name in sorted(names) if name not in JUNK_FOLDERS]


def has_images(folder: Path) -> bool:
    """Whether a folder itself holds a file named as images are."""
    return any(is_image_name(path.name) for path in folder.iterdir())


def is_kohya_image(path: Path) -> bool:
    """Whether kohya's trainer finds an image file: it compares extensions in all small or all capital letters."""
    return path.suffix in IMAGE_EXTENSIONS or path.suffix in map(str.upper, IMAGE_EXTENSIONS)


def _is_dataset_folder(folder: Path) -> bool:
    return parse_folder_name(f"{folder.parent.name}/{folder.name}") is not None


def _is_parent(folder: Path) -> bool:
    return any(map(_is_dataset_folder, subfolders(folder)))


def _children(parent: Path) -> Iterator[KohyaFolder | ReaderFault]:
    for child in subfolders(parent):
        spec = parse_folder_name(f"{parent.name}/{child.name}")
        if spec is not None:
            yield KohyaFolder(child, spec)
        elif has_images(child) or _is_parent(child):
            number = child.name.partition("_")[0]
            none = number.lstrip("-").isdecimal() and int(number) < 1
            yield ReaderFault("repeats below 1" if none else "folder ignored", child)


def _siblings(root: Path, role: Role | None) -> Iterator[ReaderFault]:
    """Faults for `reg_x` next to the training parent `train_x`: kohya's trainer reads the named parent alone."""
    kind, _, title = root.name.partition("_")
    if role is None and kind in _TRAINING_PARENTS:
        for sibling in ("reg", "val"):
            folder = root.with_name("_".join(filter(None, (sibling, title))))
            if folder.is_dir() and _is_parent(folder):
                yield ReaderFault("sibling not read", folder)


def _wrong_level(root: Path, children: list[Path]) -> Iterator[KohyaFolder | ReaderFault]:
    """The folder itself as one of images, with the fault that it is named at the wrong level."""
    spec = parse_folder_name(f"{root.parent.name}/{root.name}")
    if spec is None and not has_images(root):
        numbers = (
            " Begin a folder's name with its repeats: 10_ shows each image ten times an epoch." if children else ""
        )
        raise PrepError(f"{root} has no folder such as '10_smith man'.", _NAME_HINT + numbers)
    yield ReaderFault("parent not named" if spec else "no folder of images", root)
    yield KohyaFolder(root, spec or DatasetFolder("train", 1, "", ""))


def _captioned(path: Path, spec: DatasetFolder, file: Path) -> tuple[KohyaImage, list[ReaderFault]]:
    """An image with its caption file, and the faults of that."""
    data = file.read_bytes()
    if not data:
        return KohyaImage(path, spec, ""), [ReaderFault("caption file empty", file)]
    try:
        text = decode_text(data).rstrip("\r\n")
    except TextFault as fault:
        image = KohyaImage(path, spec, None, f"{escape_control(file.name)} {fault}")
        return image, [ReaderFault("caption not UTF-8", file)]
    mark = byte_order_mark(data)
    faults = [ReaderFault("byte order mark" if mark == "UTF-8" else "caption UTF-16", file)] if mark else []
    first, *others = caption_lines(text)
    if any(others):
        faults.append(ReaderFault("second line" if first else "first line empty", file))
    return KohyaImage(path, spec, text), faults


def _caption_elsewhere(image: Path, extension: str, captions: dict[str, Path]) -> ReaderFault | None:
    """Where the caption of an image without one may be: under another extension, or that of another image."""
    by_lower_name = {name.lower(): path for name, path in captions.items()}
    for name in (image.stem + end for end in (*CAPTION_EXTENSIONS, ".json")):
        if (file := captions.get(name, by_lower_name.get(name.lower()))) is not None:
            return ReaderFault("other extension", file)
    # A rule for names that a face detector made: kohya drops the last four parts of the whole path, cut at '_'.
    parts = str(image.absolute().with_suffix("")).split("_")
    if len(parts) >= 5 and Path("_".join(parts[:-4]) + extension).is_file():
        return ReaderFault("borrowed caption", image)
    return None


def _other_files(
    folder: KohyaFolder, extension: str, captions: dict[str, Path], stems: Counter[str]
) -> Iterator[ReaderFault]:
    if stems and not any(Path(name).suffix in CAPTION_EXTENSIONS for name in captions):
        yield ReaderFault("no captions", folder.path)
    for name, path in captions.items():
        if path.suffix == extension and path.stem not in stems:
            yield ReaderFault("caption of nothing", path)
        elif path.suffix == ".npz" or name == "metadata_cache.json":
            yield ReaderFault("old cache", path)
