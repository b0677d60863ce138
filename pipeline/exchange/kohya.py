"""Kohya's folders: `train_x/10_smith man/a.png` and a.txt, `reg_x/1_man/`, `val_x/1_smith man/`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.exchange.item import DatasetItem, ExportOptions
from pipeline.kohya_faults import ReaderFault
from pipeline.kohya_folders import KohyaFolder, find_folders, read_all
from pipeline.link import link
from pipeline.tag_text import escape_control
from stages.building.layout import encode_caption

_WRONG_LEVEL = ("parent not named", "no folder of images")


def write(items: Iterable[DatasetItem], target: Path, options: ExportOptions) -> None:
    """Write images, linked or copied, each with a caption file; `target` must not exist."""
    for item in items:
        path = target / item.dataset_path
        link(item.image, path)
        if item.caption is not None:
            path.with_suffix(options.extension).write_bytes(encode_caption(item.caption))


def detect(source: Path) -> bool:
    """Whether a folder is a parent of folders such as '10_smith man', or holds such parents."""
    try:
        return not any(isinstance(item, ReaderFault) and item.rule in _WRONG_LEVEL for item in find_folders(source))
    except PrepError:
        return False


def read(source: Path, subject: str) -> Iterator[DatasetItem | ReaderFault]:
    """Every image that kohya's trainer takes, with its whole caption file; and what it leaves out or misreads.

    Images of a folder such as '10', whose name holds repeats alone, are of `subject`. PrepError for a caption that
    is not UTF-8.
    """
    found = list(find_folders(source))
    yield from (item for item in found if isinstance(item, ReaderFault))
    folders = [item for item in found if isinstance(item, KohyaFolder)]
    root = source if any(folder.path.parent != source for folder in folders) else source.parent
    for image in read_all(folders):
        if isinstance(image, ReaderFault):
            yield image
            continue
        if image.caption_error:
            raise PrepError(
                f"{escape_control(str(image.path.parent))}: {image.caption_error}.",
                "Save it as UTF-8, then import again.",
            )
        place = image.path.relative_to(root).as_posix()
        if not image.spec.text:
            place = f"{image.path.parent.parent.name}/{image.spec.repeats}_{subject}/{image.path.name}"
        yield DatasetItem(image.path, place, image.caption)
