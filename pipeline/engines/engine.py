"""The one type that every engine has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from pipeline.record import Record
from pipeline.stage import Stage
from pipeline.workspace import Workspace

# (stage, batches, workspace, workers) -> the worked batches, in the same order. 0 workers: as many as suit.
Engine = Callable[[Stage, Iterable[list[Record]], Workspace, int], Iterator[list[Record]]]
