"""Kohya's folders: `train_x/10_smith man/a.png` and a.txt, `reg_x/1_man/`, `val_x/1_smith man/`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import PrepError
from pipeline.exchange.item import DatasetItem, ExportOptions, bucket_options
from pipeline.kohya_faults import ReaderFault
from pipeline.kohya_folders import KohyaFolder, find_folders, read_all
from pipeline.link import link
from pipeline.tag_text import escape_control
from stages.building.layout import encode_caption

CONFIG = "dataset.toml"
_HEAD = "# A dataset for kohya's trainer: start it in this folder with --dataset_config dataset.toml\n"
_WRONG_LEVEL = ("parent not named", "no folder of images")


def write(items: Iterable[DatasetItem], target: Path, options: ExportOptions) -> None:
    """Write images, linked or copied, each with a caption file, and a dataset.toml; `target` must not exist.

    The folders' names say the same to --train_data_dir and --reg_data_dir as dataset.toml to --dataset_config; only
    subsets of caption files, as here, can be marked as regularization there. Validation images are in none of both.
    """
    subsets = {}
    for item in items:
        path = target / item.dataset_path
        link(item.image, path)
        subsets[item.folder] = item.folder_spec
        if item.caption is not None:
            path.with_suffix(options.extension).write_bytes(encode_caption(item.caption))
    config = dataset_config(options, {"caption_extension": options.extension})
    for folder, spec in subsets.items():
        if spec.role != "val":
            keys = {"image_dir": folder, "num_repeats": spec.repeats, "class_tokens": spec.text}
            config += subset_config(keys | ({"is_reg": True} if spec.role == "reg" else {}))
    (target / CONFIG).write_text(config, encoding="utf-8", newline="\n")


def dataset_config(options: ExportOptions, general: Mapping[str, Any]) -> str:
    """The head of a dataset.toml for kohya's trainer, in which every image keeps its size."""
    keys = {**general, **bucket_options(options)}
    size = f"resolution = {options.resolution}\n" if options.resolution else ""
    return f"{_HEAD}[general]\n{_lines(keys)}\n[[datasets]]\n{size}"


def subset_config(keys: Mapping[str, Any]) -> str:
    """One subset of a dataset.toml."""
    return f"\n[[datasets.subsets]]\n{_lines(keys)}"


def _lines(keys: Mapping[str, Any]) -> str:
    """TOML for texts, numbers and truth values, whose JSON is valid TOML."""
    return "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in keys.items())


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
