"""Finished batches of a running stage, from which the next run continues after a crash."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.manifest import Manifest, write_manifest
from pipeline.record import Record

_SECONDS = 5.0  # a crash loses at most this much work
_RECORDS = 5_000


class PartialResults:
    """A folder of small manifests, each named after its first and last batch.

    Batches arrive in order, so the files hold the first part of the work.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[Path] = []
        self.done = 0  # number of batches on disk
        for file in sorted(folder.glob("*.parquet")):
            first, last = map(int, file.stem.split("-"))
            if first != self.done or not _is_valid(file):
                break
            self.files.append(file)
            self.done = last + 1

    def record(self, batches: Iterable[list[Record]]) -> Iterator[list[Record]]:
        """Yield the batches unchanged, and write them to disk every few seconds."""
        first, pending, since = self.done, list[Record](), time.monotonic()
        for number, batch in enumerate(batches, first):
            pending += batch
            yield batch
            if len(pending) >= _RECORDS or time.monotonic() - since >= _SECONDS:
                self._write(first, number, pending)
                first, pending, since = number + 1, [], time.monotonic()
        if pending:
            self._write(first, number, pending)

    def batches(self) -> Iterator[list[Record]]:
        for file in self.files:
            yield from Manifest.read(file).batches()

    def remove(self) -> None:
        """Delete all partial results of this stage, those of earlier keys too."""
        name = self.folder.name.rsplit("-", 1)[0]
        for folder in self.folder.parent.glob(f"{name}-*"):
            shutil.rmtree(folder)

    def _write(self, first: int, last: int, records: list[Record]) -> None:
        file = self.folder / f"{first:08d}-{last:08d}.parquet"
        write_manifest(file, [records], ())
        self.files.append(file)
        self.done = last + 1


def _is_valid(file: Path) -> bool:
    try:
        Manifest.read(file)
    except PrepError:
        return False
    return True
