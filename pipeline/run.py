"""Bring a stage up to date: read its input, skip what is done, run it on an engine, write, account."""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.engines.engine import Engine
from pipeline.errors import PrepError
from pipeline.manifest import ImageCounts, Manifest, write_manifest
from pipeline.options import format_value
from pipeline.partial_results import PartialResults
from pipeline.progress import Progress
from pipeline.recipe import Recipe
from pipeline.record import Record
from pipeline.sources import SourceScan, roots, scan
from pipeline.stage import DatasetStage, HistoryStep, Stage
from pipeline.workspace import Workspace


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A place in the line: one stage, or several taggers side by side whose annotations are joined."""

    name: str
    stages: tuple[Stage, ...]
    joined: bool = False


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How to run, as opposed to what: none of it changes a result."""

    engine: Engine
    workers: int  # how many work at a time; 0: as many as suit the engine and the stage
    quiet: bool = False
    skip_checks: bool = False  # train whatever prep check finds


@dataclass(frozen=True, slots=True)
class StageResult:
    """What came of bringing a stage up to date."""

    name: str
    manifest: Manifest
    before: ImageCounts | None  # of the manifest it read, unless those are the sources
    worked: bool  # False: it was up to date
    seconds: float
    others: dict[str, int] = field(default_factory=dict)  # files among the sources that are no images, by extension
    notes: tuple[str, ...] = ()  # what the stage says of the manifest beside the account

    @property
    def counts(self) -> ImageCounts:
        return self.manifest.counts


def find_sources(workspace: Workspace, recipe: Recipe, settings: RunSettings) -> tuple[Manifest, SourceScan]:
    """The manifest of the user's images, written anew when a file was added, removed or changed."""
    with Progress("scan", settings.quiet) as progress:
        found = scan(workspace, recipe, progress)
    if not any(record.role == "train" for record in found.records):
        folders = ", ".join(subject.folder for subject in recipe.subjects)
        raise PrepError(f"There are no images in {folders}.", "Put images there, or change 'folder' in prep.toml.")
    return _written(workspace.manifest("sources"), found.records, scan_step(found)), found


def own_source(plan: StagePlan, workspace: Workspace, settings: RunSettings) -> Manifest | None:
    """The manifest of what a stage works on instead of an earlier stage's; None as a rule."""
    with Progress("read", settings.quiet) as progress:
        own = plan.stages[0].own_source(workspace, progress)
    return own and _written(own_manifest(plan, workspace), *own)


def own_manifest(plan: StagePlan, workspace: Workspace) -> Path:
    return workspace.manifest(f"{plan.name}.source")


def _written(target: Path, records: list[Record], step: HistoryStep) -> Manifest:
    """The manifest of these records, written only when another step made what is there."""
    if (old := read_if_whole(target)) is not None and old.history == (step,):
        return old
    return write_manifest(target, [records], (step,))


def scan_step(found: SourceScan) -> HistoryStep:
    """The step of the sources' manifest; its input is the digest of all names, contents and roles."""
    listing = hashlib.sha256()
    for r in found.records:
        listing.update("\0".join((r.id, r.source, r.subject, r.class_name, r.role, str(r.drop))).encode() + b"\n")
    return HistoryStep("scan", 1, {}, listing.hexdigest())


def update_stage(plan: StagePlan, source: Manifest, workspace: Workspace, settings: RunSettings) -> StageResult:
    """Bring one place of the line up to date with its input; works only if something changed."""
    target = workspace.manifest(plan.name)
    steps = expected_history(plan, source, workspace)
    old = read_if_whole(target)
    before = source.counts if source.path.stem != "sources" else None
    if old is not None and why_stale(plan, old, source, workspace, steps) is None:
        return StageResult(plan.name, old, before, False, 0.0, notes=_notes(plan, old, False))
    for stage in plan.stages:
        stage.check_input(source)
    workspace.sweep()
    with Progress(plan.name, settings.quiet) as progress:
        if not plan.joined:
            manifest = _Job(plan.stages[0], source, workspace, settings, progress).run(target)
        else:
            members = [
                update_stage(StagePlan(f"{plan.name}.{stage.label}", (stage,)), source, workspace, settings).manifest
                for stage in plan.stages
            ]
            steps = tuple(member.history[-1] for member in members)
            manifest = write_manifest(target, _join(source, members), source.history + steps)
        return StageResult(plan.name, manifest, before, True, progress.seconds, notes=_notes(plan, manifest, True))


def _notes(plan: StagePlan, manifest: Manifest, worked: bool) -> tuple[str, ...]:
    return tuple(note for stage in plan.stages if worked or not stage.notes_once for note in stage.notes(manifest))


def expected_history(plan: StagePlan, source: Manifest, workspace: Workspace) -> tuple[HistoryStep, ...]:
    """The history that the plan's stages would add to what they read."""
    return tuple(
        HistoryStep(
            stage.label,
            stage.version,
            stage.params() | stage.inputs(workspace),
            source.digest,
            stage.models(workspace),
        )
        for stage in plan.stages
    )


def why_stale(
    plan: StagePlan, old: Manifest, source: Manifest, workspace: Workspace, steps: tuple[HistoryStep, ...]
) -> str | None:
    """Why a manifest is not what its stage would write now, in a few words; None when it is."""
    had = {step.stage: step for step in old.history[len(source.history) :]}
    for stage, step in zip(plan.stages, steps, strict=True):
        before = had.get(step.stage)
        if before is None:
            return f"{step.stage} is new"
        if before.version != step.version:
            return f"prep's {step.stage} works differently now"
        for name in sorted(step.params.keys() | before.params.keys()):
            was, now = before.params.get(name), step.params.get(name)
            if was != now:
                digests = name in stage.inputs(workspace)
                return (
                    f"the {name} changed" if digests else f"{name} was {format_value(was)}, is now {format_value(now)}"
                )
        if before.models != step.models:
            return f"the model of {step.stage} changed"
        if before.key != step.key:
            return f"{source.path.stem} changed"
    if len(had) != len(steps):
        return f"{', '.join(had.keys() - {step.stage for step in steps})} is no longer wanted"
    return next((f"{what} missing" for stage in plan.stages if (what := stage.missing_outputs(old, workspace))), None)


def read_if_whole(path: Path) -> Manifest | None:
    """The manifest if there is one that can be read; a broken one is made again."""
    try:
        return Manifest.read(path)
    except PrepError:
        return None


@dataclass(frozen=True, slots=True)
class _Job:
    """One stage at work on one manifest."""

    stage: Stage
    source: Manifest
    workspace: Workspace
    settings: RunSettings
    progress: Progress

    def run(self, target: Path) -> Manifest:
        """Do the work, batch by batch where the stage allows it, and write the manifest."""
        (step,) = expected_history(StagePlan(self.stage.label, (self.stage,)), self.source, self.workspace)
        step = replace(step, libraries={name: importlib.metadata.version(name) for name in self.stage.libraries})
        history = (*self.source.history, step)
        if isinstance(self.stage, DatasetStage):
            return write_manifest(target, self.stage.run(self.source, self.workspace, self.progress), history)
        parts = PartialResults(target.parent / ".parts" / f"{self.stage.label}-{step.key[:16]}")
        for _ in parts.record(self.batches(parts.done)):
            pass  # a batch is safe on disk a few seconds after it was worked on
        manifest = write_manifest(target, parts.batches(), history)
        parts.remove()
        return manifest

    def batches(self, done: int) -> Iterator[list[Record]]:
        """Work on what is kept, from batch `done` on; what is dropped passes by. Every record comes out again."""
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
            passing = [record for record in batch if not record.kept]
            merged = sorted([*result, *passing], key=lambda record: record.id)
            if lost := roots(batch) ^ roots(merged):
                raise AssertionError(f"{self.stage.label} lost or invented {lost}")
            yield merged
            counted += len(batch) - len(passing)
            self.progress(counted, total)
        yield from waiting


def _join(source: Manifest, members: list[Manifest]) -> Iterator[list[Record]]:
    """What every tagger added, side by side: all work on the same records in the same order."""
    for base, *others in zip(source.records(), *(member.records() for member in members), strict=True):
        added = itertools.chain.from_iterable(o.annotations[len(base.annotations) :] for o in others)
        drop = next((other.drop for other in others if other.drop), None)
        yield [replace(base, annotations=(*base.annotations, *added), drop=drop)]
