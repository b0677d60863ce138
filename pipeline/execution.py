"""Runs one stage on one manifest: batches go through an engine, come back complete, and become the stage's manifest."""

from __future__ import annotations

import importlib.metadata
import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.engines.engine import Engine
from pipeline.history import HistoryStep
from pipeline.manifest import Manifest, write_manifest
from pipeline.partial_results import PartialResults
from pipeline.record import Record, root_of
from pipeline.stage import DatasetStage, ProgressFn, Stage
from pipeline.workspace import Workspace


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How to run; none of these can change a result."""

    engine: Engine
    workers: int  # how many batches are worked on at a time; 0: as many as suit the engine and the stage
    quiet: bool = False
    skip_checks: bool = False  # train even if prep check finds errors
    discard_changes: bool = False  # build over what was changed by hand in dataset/
    need_models: bool = False  # a model that is not on this machine is an error even if the manifest is current


@dataclass(frozen=True, slots=True)
class StageExecution:
    """One stage and the manifest it works on."""

    stage: Stage
    source: Manifest
    workspace: Workspace
    settings: RunSettings
    progress: ProgressFn

    def run(self, target: Path, step: HistoryStep) -> Manifest:
        """Do the work, in batches where the stage allows it, and write the manifest `target`."""
        step = replace(step, libraries={name: importlib.metadata.version(name) for name in self.stage.libraries})
        history = (*self.source.history, step)
        if isinstance(self.stage, DatasetStage):
            return write_manifest(target, self.stage.run(self.source, self.workspace, self.progress), history)
        parts = PartialResults(target.parent / ".parts" / f"{self.stage.label}-{step.key[:16]}")
        for _ in parts.record(self._batches(parts.done)):
            pass  # each batch is on disk a few seconds after it was computed
        manifest = write_manifest(target, parts.batches(), history)
        parts.remove()
        return manifest

    def _batches(self, done: int) -> Iterator[list[Record]]:
        """The results of every batch from number `done` on. Dropped records skip the work; no record is lost."""
        waiting: deque[list[Record]] = deque()
        counted, total = 0, self.source.counts.images

        def feed() -> Iterator[list[Record]]:
            nonlocal counted
            for number, batch in enumerate(self.source.batches(self.stage.records_per_batch)):
                kept = [record for record in batch if record.kept]
                if number < done:
                    counted += len(kept)
                    continue
                if number == done:
                    self.progress(counted, total)
                waiting.append(batch)
                if kept:
                    yield kept

        for result in self.settings.engine(self.stage, feed(), self.workspace, self.settings.workers):
            while not any(record.kept for record in waiting[0]):
                yield waiting.popleft()
            batch = waiting.popleft()
            dropped = [record for record in batch if not record.kept]
            merged = sorted([*result, *dropped], key=lambda record: record.id)
            if lost := {root_of(record.id) for record in batch} ^ {root_of(record.id) for record in merged}:
                raise AssertionError(f"{self.stage.label} lost or invented {lost}")
            yield merged
            counted += len(batch) - len(dropped)
            self.progress(counted, total)
        yield from waiting


def join_annotations(source: Manifest, members: list[Manifest]) -> Iterator[list[Record]]:
    """The records of `source` with the annotations that every member added; all have the same records in order."""
    for base, *others in zip(source.records(), *(member.records() for member in members), strict=True):
        added = itertools.chain.from_iterable(o.annotations[len(base.annotations) :] for o in others)
        drop = next((other.drop for other in others if other.drop), None)
        yield [replace(base, annotations=(*base.annotations, *added), drop=drop)]
