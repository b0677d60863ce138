"""The type of an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from pipeline.record import Record
from pipeline.stage import Stage
from pipeline.workspace import Workspace

# (stage, batches, workspace, workers) -> the results of the batches, in order. 0 workers: as many as suit the machine.
Engine = Callable[[Stage, Iterable[list[Record]], Workspace, int], Iterator[list[Record]]]
