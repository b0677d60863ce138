"""Bring a stage up to date: read its input, skip what is done, run it on an engine, write, account."""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.engines.engine import Engine
from pipeline.errors import PrepError
from pipeline.manifest import Counts, Manifest, write_manifest
from pipeline.options import shown
from pipeline.parts import Parts
from pipeline.progress import Progress
from pipeline.recipe import Recipe
from pipeline.record import Record
from pipeline.sources import Scan, roots, scan
from pipeline.stage import Stage, Step, Whole
from pipeline.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Plan:
    """A place in the line: one stage, or several taggers side by side whose annotations are joined."""

    name: str
    stages: tuple[Stage, ...]
    joined: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """How to run, as opposed to what: none of it changes a result."""

    engine: Engine
    workers: int
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of bringing a stage up to date."""

    name: str
    manifest: Manifest
    before: Counts | None  # of the manifest it read, unless those are the sources
    worked: bool  # False: it was up to date
    seconds: float

    @property
    def counts(self) -> Counts:
        return self.manifest.counts


def find_sources(workspace: Workspace, recipe: Recipe, settings: Settings) -> tuple[Manifest, Scan]:
    """The manifest of the user's pictures, written anew when a file was added, removed or changed."""
    with Progress("scan", settings.quiet) as progress:
        found = scan(workspace, recipe, progress)
    if not any(record.role == "train" for record in found.records):
        folders = ", ".join(subject.folder for subject in recipe.subjects)
        raise PrepError(f"There are no pictures in {folders}.", "Put pictures there, or change 'folder' in prep.toml.")
    step = scan_step(found)
    target = workspace.manifest("sources")
    if (old := read_if_whole(target)) is not None and old.history == (step,):
        return old, found
    return write_manifest(target, [found.records], (step,)), found


def scan_step(found: Scan) -> Step:
    """The step of the sources' manifest; its input is the digest of all names, contents and roles."""
    listing = hashlib.sha256()
    for r in found.records:
        listing.update("\0".join((r.id, r.source, r.subject, r.class_name, r.role, str(r.drop))).encode() + b"\n")
    return Step("scan", 1, {}, listing.hexdigest())


def bring(plan: Plan, source: Manifest, workspace: Workspace, settings: Settings) -> Outcome:
    """Bring one place of the line up to date with its input; works only if something changed."""
    target = workspace.manifest(plan.name)
    steps = expected(plan, source, workspace)
    old = read_if_whole(target)
    before = source.counts if source.path.stem != "sources" else None
    if old is not None and stale(plan, old, source, workspace, steps) is None:
        return Outcome(plan.name, old, before, False, 0.0)
    for stage in plan.stages:
        stage.suit(source)
    workspace.sweep()
    with Progress(plan.name, settings.quiet) as progress:
        if not plan.joined:
            manifest = _work(plan.stages[0], source, target, (workspace, settings, progress))
        else:
            members = [
                bring(Plan(f"{plan.name}.{stage.name}", (stage,)), source, workspace, settings).manifest
                for stage in plan.stages
            ]
            steps = tuple(member.history[-1] for member in members)
            manifest = write_manifest(target, _join(source, members), source.history + steps)
        return Outcome(plan.name, manifest, before, True, progress.seconds)


def expected(plan: Plan, source: Manifest, workspace: Workspace) -> tuple[Step, ...]:
    """The history that the plan's stages would add to what they read."""
    return tuple(
        Step(stage.name, stage.version, stage.params(), source.digest, stage.models(workspace)) for stage in plan.stages
    )


def stale(plan: Plan, old: Manifest, source: Manifest, workspace: Workspace, steps: tuple[Step, ...]) -> str | None:
    """Why a manifest is not what its stage would write now, in a few words; None when it is."""
    had = {step.stage: step for step in old.history[len(source.history) :]}
    for step in steps:
        before = had.get(step.stage)
        if before is None:
            return f"{step.stage} is new"
        if before.version != step.version:
            return f"prep's {step.stage} works differently now"
        for name in step.params.keys() | before.params.keys():
            was, now = before.params.get(name), step.params.get(name)
            if was != now:
                return f"{name} was {shown(was)}, is now {shown(now)}"
        if before.models != step.models:
            return f"the model of {step.stage} changed"
        if before.key != step.key:
            return f"{source.path.stem} changed"
    if len(had) != len(steps):
        return f"{', '.join(had.keys() - {step.stage for step in steps})} is no longer wanted"
    return next((f"{what} missing" for stage in plan.stages if (what := stage.missing(old, workspace))), None)


def read_if_whole(path: Path) -> Manifest | None:
    """The manifest if there is one that can be read; a broken one is made again."""
    try:
        return Manifest.read(path)
    except PrepError:
        return None


def _work(stage: Stage, source: Manifest, target: Path, under: tuple[Workspace, Settings, Progress]) -> Manifest:
    workspace, settings, progress = under
    (step,) = expected(Plan(stage.name, (stage,)), source, workspace)
    step = replace(step, libraries={name: importlib.metadata.version(name) for name in stage.libraries})
    history = (*source.history, step)
    if isinstance(stage, Whole):
        return write_manifest(target, stage.run(source, workspace, progress), history)
    parts = Parts(target.parent / ".parts" / f"{stage.name}-{step.key[:16]}")
    pictures = itertools.count(1)
    for batch in parts.record(_batches(stage, source, (workspace, settings), parts.done)):
        for _ in roots(batch):
            done = next(pictures)
        progress(done + parts.done * stage.batch_size, source.counts.found)
    manifest = write_manifest(target, parts.batches(), history)
    parts.remove()
    return manifest


def _batches(stage: Stage, source: Manifest, under: tuple[Workspace, Settings], done: int) -> Iterator[list[Record]]:
    """Work on what is kept; what is dropped passes by. Every record that went in comes out."""
    workspace, settings = under
    waiting: deque[list[Record]] = deque()

    def feed() -> Iterator[list[Record]]:
        for batch in itertools.islice(source.batches(stage.batch_size), done, None):
            waiting.append(batch)
            if kept := [record for record in batch if record.kept]:
                yield kept

    for result in settings.engine(stage, feed(), workspace, settings.workers):
        while not any(record.kept for record in waiting[0]):
            yield waiting.popleft()
        batch = waiting.popleft()
        merged = sorted([*result, *(record for record in batch if not record.kept)], key=lambda record: record.id)
        if lost := roots(batch) ^ roots(merged):
            raise AssertionError(f"{stage.name} lost or invented {lost}")
        yield merged
    yield from waiting


def _join(source: Manifest, members: list[Manifest]) -> Iterator[list[Record]]:
    """What every tagger added, side by side: all work on the same records in the same order."""
    for base, *others in zip(source.records(), *(member.records() for member in members), strict=True):
        added = itertools.chain.from_iterable(o.annotations[len(base.annotations) :] for o in others)
        drop = next((other.drop for other in others if other.drop), None)
        yield [replace(base, annotations=(*base.annotations, *added), drop=drop)]
