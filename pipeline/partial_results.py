"""Finished batches of a stage under way: what a crash leaves behind, and the next run goes on from."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.manifest import Manifest, write_manifest
from pipeline.record import Record

_SECONDS = 5.0  # at most this much work is lost by a crash
_RECORDS = 5_000


class PartialResults:
    """A folder of small manifests, each named after the first and last batch it holds.

    Batches arrive in order, so the parts on disk are always the beginning of the work.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[Path] = []
        self.done = 0  # batches that are safe on disk
        for file in sorted(folder.glob("*.parquet")):
            first, last = map(int, file.stem.split("-"))
            if first != self.done or not _whole(file):
                break
            self.files.append(file)
            self.done = last + 1

    def record(self, batches: Iterable[list[Record]]) -> Iterator[list[Record]]:
        """Pass batches on, and write them down every few seconds."""
        first, held, since = self.done, list[Record](), time.monotonic()
        for number, batch in enumerate(batches, first):
            held += batch
            yield batch
            if len(held) >= _RECORDS or time.monotonic() - since >= _SECONDS:
                self._write(first, number, held)
                first, held, since = number + 1, [], time.monotonic()
        if held:
            self._write(first, number, held)

    def batches(self) -> Iterator[list[Record]]:
        for file in self.files:
            yield from Manifest.read(file).batches()

    def remove(self) -> None:
        """Delete all parts of this stage, those of earlier keys too."""
        name = self.folder.name.rsplit("-", 1)[0]
        for folder in self.folder.parent.glob(f"{name}-*"):
            shutil.rmtree(folder)

    def _write(self, first: int, last: int, records: list[Record]) -> None:
        file = self.folder / f"{first:08d}-{last:08d}.parquet"
        write_manifest(file, [records], ())
        self.files.append(file)
        self.done = last + 1


def _whole(file: Path) -> bool:
    try:
        Manifest.read(file)
    except PrepError:
        return False
    return True
