"""Whether a manifest is current: what its stage would record now, compared with what the manifest records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.history import HistoryStep
from pipeline.manifest import Manifest, read_if_valid
from pipeline.options import format_value
from pipeline.recipe import Recipe
from pipeline.registry import StagePlan, all_stages
from pipeline.sources import SourceScan, scan
from pipeline.workspace import Workspace

_UNREADABLE = "its manifest is damaged or of another version of prep"


@dataclass(frozen=True, slots=True)
class StageStatus:
    """A stage's manifest, if there is one, and what is left to do."""

    name: str
    manifest: Manifest | None
    to_do: str  # empty when the manifest is up to date


def stage_statuses(workspace: Workspace, recipe: Recipe) -> Iterator[StageStatus]:
    """The status of every stage, in order. Reads manifests' footers and file times; runs nothing."""
    step = scan_step(scan(workspace, recipe, _no_progress))
    source = read_if_valid(workspace.manifest("sources"))
    waiting = "" if source is not None and source.history == (step,) else "images were added, removed or changed"
    for plan in all_stages(recipe):
        manifest = read_if_valid(workspace.manifest(plan.name))
        if (own := plan.stages[0].own_source(workspace, _no_progress)) is not None:
            source = read_if_valid(own_source_path(plan, workspace))
            waiting = "" if source is not None and source.history == own[1:] else "its folder was changed"
        if manifest is None:
            unreadable = workspace.manifest(plan.name).is_file()
            yield StageStatus(plan.name, None, _UNREADABLE if unreadable else "not run yet")
            waiting, source = waiting or f"{plan.name} has not run", None
        elif waiting or source is None:
            yield StageStatus(plan.name, manifest, waiting)
        else:
            why = why_stale(plan, manifest, source, workspace)
            yield StageStatus(plan.name, manifest, why or "")
            source, waiting = manifest, f"{plan.name} is not up to date" if why else ""


def why_stale(plan: StagePlan, old: Manifest | None, source: Manifest, workspace: Workspace) -> str | None:
    """Why the manifest `old` differs from what its stage would write from `source` now; None when it is current."""
    if old is None:
        return "not run yet"
    if any(stage.forced for stage in plan.stages):
        return "a restart was asked for"
    steps = expected_history(plan, source, workspace)
    had = {step.stage: step for step in old.history[len(source.history) :]}
    for stage, step in zip(plan.stages, steps, strict=True):
        if step.stage not in had:
            return f"{step.stage} is new"
        why = _difference(had[step.stage], step, tuple(stage.inputs(workspace)))
        if why or had[step.stage].key != step.key:
            return why or f"{source.path.stem} changed"
    if len(had) != len(steps):
        return f"{', '.join(had.keys() - {step.stage for step in steps})} was removed from prep.toml"
    missing = (stage.missing_outputs(old, workspace) for stage in plan.stages)
    return next((f"{files} missing" for files in missing if files), None)


def _difference(before: HistoryStep, now: HistoryStep, digests: tuple[str, ...]) -> str:
    """The first of version, options and models in which two steps differ, in words; empty if none."""
    if before.version != now.version:
        return f"this version of prep changed {now.stage}"
    for name in sorted(now.params.keys() | before.params.keys()):
        old, new = before.params.get(name), now.params.get(name)
        if old != new and name in digests:
            return f"the {name} changed"
        if old != new:
            return f"{name} was {format_value(old)}, is now {format_value(new)}"
    return f"the model of {now.stage} changed" if before.models != now.models else ""


def expected_history(plan: StagePlan, source: Manifest, workspace: Workspace) -> tuple[HistoryStep, ...]:
    """The history steps that the plan's stages would add to the history of `source`."""
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


def scan_step(found: SourceScan) -> HistoryStep:
    """The history step of the sources' manifest; its input is a digest of all names, contents and roles."""
    listing = hashlib.sha256()
    for r in found.records:
        listing.update("\0".join((r.id, r.source, r.subject, r.class_name, r.role, str(r.drop))).encode() + b"\n")
    return HistoryStep("scan", 1, {}, listing.hexdigest())


def own_source_path(plan: StagePlan, workspace: Workspace) -> Path:
    """The manifest of the records that a stage brings itself instead of reading an earlier stage's."""
    return workspace.manifest(f"{plan.name}.source")


def _no_progress(done: int, total: int) -> None:
    """Report nothing."""
