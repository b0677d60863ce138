"""A zip of kohya's folders, in which caption names match image names; reproducible bytes."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pipeline.exchange.item import DatasetItem, ExportOptions
from stages.building.layout import encode_caption

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time in the zip format
_UNIX, _PLAIN_FILE = 3, 0o100644 << 16


def write(items: Iterable[DatasetItem], target: Path, options: ExportOptions) -> None:
    """Write one zip file without compression: images do not shrink, and the bytes depend on no library's version."""
    with zipfile.ZipFile(target, "x") as archive:
        for item in items:
            with item.image.open("rb") as old, archive.open(_member(item.dataset_path), "w", force_zip64=True) as new:
                shutil.copyfileobj(old, new, 1 << 20)
            if item.caption is not None:
                name = str(PurePosixPath(item.dataset_path).with_suffix(options.extension))
                archive.writestr(_member(name), encode_caption(item.caption))


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _EPOCH)
    member.create_system, member.external_attr = _UNIX, _PLAIN_FILE
    return member
