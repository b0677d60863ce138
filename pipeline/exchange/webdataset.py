"""WebDataset: tar shards with an image, a .txt caption and a .json of its folder for each key; reproducible bytes."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from pipeline.errors import PrepError
from pipeline.exchange.item import DatasetItem, ExportOptions
from pipeline.tag_text import escape_control

_BLOCK = 512
_OVERHEAD = 6 * 3 * _BLOCK  # headers of one sample's three files, with room for long names


def write(items: Iterable[DatasetItem], target: Path, options: ExportOptions) -> None:
    """Write shards `train_x-000000.tar` of at most `options.shard` bytes, or of one image where that is larger."""
    target.mkdir(parents=True)
    for parent, group in itertools.groupby(items, key=lambda item: item.folder.partition("/")[0]):
        for number, samples in enumerate(_shards(group, options.shard_bytes)):
            with (
                (target / f"{parent}-{number:06d}.tar").open("xb") as file,
                tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as tar,
            ):
                for item in samples:
                    _add(tar, item)


def _shards(items: Iterable[DatasetItem], most: int) -> Iterator[list[DatasetItem]]:
    """The items, in lists that each fit into a shard."""
    shard: list[DatasetItem] = []
    size = 2 * _BLOCK * 10  # the end of a tar file
    for item in items:
        room = item.image.stat().st_size + len(item.text.encode()) + _OVERHEAD
        if shard and size + room > most:
            yield shard
            shard, size = [], 2 * _BLOCK * 10
        shard.append(item)
        size += room
    if shard:
        yield shard


def _add(tar: tarfile.TarFile, item: DatasetItem) -> None:
    """Add one sample: files whose names are the same up to the first dot."""
    key = str(PurePosixPath(item.dataset_path).with_suffix(""))
    if "." in key.rpartition("/")[2]:
        raise PrepError(
            f"The name {escape_control(item.name)} has two dots, and WebDataset ends the key at the first.",
            "Rename the image, then: prep run",
        )
    folder = json.dumps(dataclasses.asdict(item.folder_spec), ensure_ascii=False, sort_keys=True)
    with item.image.open("rb") as file:
        tar.addfile(_member(item.dataset_path, item.image.stat().st_size), file)
    for ending, text in ((".txt", item.text), (".json", folder)):
        data = text.encode()
        tar.addfile(_member(key + ending, len(data)), io.BytesIO(data))


def _member(name: str, size: int) -> tarfile.TarInfo:
    """A member without time or owner, so that the bytes are reproducible."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member
