"""Kohya's folders: `train_x/10_smith man/a.png` and a.txt, `reg_x/1_man/`, `val_x/1_smith man/`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.exchange.item import DatasetItem, ExportOptions, folders_in, images_in, read_caption
from pipeline.link import link
from stages.building.layout import encode_caption, parse_folder_name

_TRAINING = ("train", "img")  # how people call the parent whose sibling holds the regularization images


def write(items: Iterable[DatasetItem], target: Path, form: ExportOptions) -> None:
    """Lay out images, linked or copied, with a caption file beside each; `target` must not exist."""
    for item in items:
        place = target / item.dataset_path
        link(item.image, place)
        if item.caption is not None:
            place.with_suffix(form.extension).write_bytes(encode_caption(item.caption))


def detect(source: Path) -> bool:
    """Whether a folder is a parent of folders such as '10_smith man', or holds such parents."""
    return any(True for _ in _shelves(source))


def read(source: Path, usual: str) -> Iterator[DatasetItem]:
    """Every image that kohya's reader would take, with its caption; None where no file says one."""
    for root, folder in _shelves(source):
        for image in images_in(folder):
            yield DatasetItem(image, image.relative_to(root).as_posix(), read_caption(image))


def _shelves(source: Path) -> Iterator[tuple[Path, Path]]:
    """Folders of images, and the root that their places begin at."""
    direct = [(source.parent, child) for child in _named(source)]
    kind, _, title = source.name.partition("_")
    if direct and kind in _TRAINING:  # what belongs to it lies beside it
        siblings = [source.with_name("_".join(filter(None, (role, title)))) for role in ("reg", "val")]
        direct += [(source.parent, child) for folder in siblings if folder.is_dir() for child in _named(folder)]
    yield from direct
    root = source.parent if direct else source
    for parent in folders_in(source):
        if parse_folder_name(parent.name) is None:
            yield from ((root, child) for child in _named(parent))


def _named(parent: Path) -> list[Path]:
    """The folders that kohya's reader takes; a number alone names no subject."""
    return [path for path in folders_in(parent) if (shelf := parse_folder_name(path.name)) and shelf.text]
