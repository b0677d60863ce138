"""Whether a manifest is current: what its stage would record now, compared with what the manifest records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline import registry
from pipeline.by_hand import CHECKS
from pipeline.errors import PrepError
from pipeline.given_options import command_line, overrides, with_given
from pipeline.history import HistoryStep
from pipeline.history_differences import history_differences
from pipeline.manifest import Manifest, read_if_valid
from pipeline.recipe import Recipe
from pipeline.record import Drop, Record, root_of
from pipeline.registry import StagePlan, all_stages
from pipeline.sources import SourceScan, scan
from pipeline.stage import Stage
from pipeline.workspace import Workspace

_UNREADABLE = "its manifest is damaged or of another version of prep"
_IMAGES = "images were added, removed or changed"


@dataclass(frozen=True, slots=True)
class Outdated:
    """A plain finding: why something is not what the images, prep.toml and people's decisions would give now."""

    stage: str
    why: str
    fix: str  # the command that mends it
    cause: bool = True  # False: it only waits for an earlier stage
    by_run: bool = True  # False: prep run would also undo options that were given on a command line


@dataclass(frozen=True, slots=True)
class StageStatus:
    """A stage's manifest, if there is one, and what is left to do."""

    plan: StagePlan
    manifest: Manifest | None
    to_do: str  # empty when the manifest is up to date
    cause: bool = True  # False: the stage only waits for an earlier one
    given: tuple[str, ...] = ()  # the options of a command line in which it differs from prep.toml
    notes: tuple[str, ...] = ()  # what else to know about it although it may be up to date
    findings: tuple[Outdated, ...] = ()  # what else makes its output differ from what people decided

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def fix(self) -> str:
        """The command that brings this stage up to date, with the options it was given."""
        return command_line(self.plan)


def outdated(workspace: Workspace, recipe: Recipe, stage: str) -> list[Outdated]:
    """Why the manifest of `stage` is not what the images, prep.toml and people's decisions would give now.

    Every command that reads a manifest asks this. The findings are in the order of the stages: the causes, and the
    stages that wait for them; empty when all is current. Reads manifests' footers and file times, and hashes only
    files that changed since they were hashed. In a folder of manifests without that of the images there is nothing to
    compare with.
    """
    if not workspace.manifest("sources").is_file():
        return []
    found: list[Outdated] = []
    given = False
    for status in stage_statuses(workspace, recipe):
        given |= bool(status.given)
        if status.to_do:
            found.append(Outdated(status.name, status.to_do, status.fix, status.cause))
        found += status.findings
        if status.name == stage:
            break
    return [replace(one, by_run=one.by_run and not given) for one in found]


def outdated_input(workspace: Workspace, recipe: Recipe, plan: StagePlan) -> list[Outdated]:
    """Why the manifest that a stage reads is not current; none for a stage that names its own input or has none yet."""
    reads = plan.stages[0].reads
    if reads and not workspace.manifest(reads).is_file():
        return []
    if any(stage.values().get(name) for stage in plan.stages for name in stage.names_input):
        return []
    before = [other.name for other in effective_plans(workspace, recipe) if _comes_before(other, plan)]
    return outdated(workspace, recipe, before[-1]) if before else []


def refuse_outdated(found: list[Outdated], what: str, allow_stale: bool) -> None:
    """PrepError if there is anything that `what` would leave out or get wrong, unless `allow_stale`."""
    if found and not allow_stale:
        raise PrepError(
            f"{what} is not up to date: {causes(found)}.",
            f"Bring it up to date: {how_to_mend(found)}    or use it as it is: --allow-stale",
        )


def causes(found: list[Outdated]) -> str:
    """The findings in a few words, without the stages that only wait: 'merge: the edits changed'."""
    return "; ".join(f"{one.stage}: {one.why}" for one in found if one.cause)


def how_to_mend(found: list[Outdated]) -> str:
    """The command, or the commands in their order, that bring all up to date: no stage runs over changes by hand."""
    fixes = sorted(dict.fromkeys(one.fix for one in found), key=lambda fix: not fix.endswith(" adopt"))
    return "prep run" if len(fixes) > 1 and all(one.by_run for one in found) else ", then ".join(fixes)


def effective_plans(workspace: Workspace, recipe: Recipe) -> list[StagePlan]:
    """The stages that count, in order: those of prep.toml, with the options that each was last given on a command line.

    A stage that prep.toml does not have counts if a command ran it; one whose options leave all as it is, and that
    has not run, does not.
    """
    from_recipe = {plan.name: plan for plan in all_stages(recipe)}
    plans = [with_given(workspace, recipe, name) or from_recipe.get(name) for name in registry.ORDER]
    return [plan for plan in plans if plan and not (is_idle(plan) and not workspace.manifest(plan.name).is_file())]


def input_manifest(plan: StagePlan, workspace: Workspace, recipe: Recipe) -> Manifest:
    """The manifest that a stage reads when it runs alone: that of the nearest earlier stage that counts and has one."""
    required = plan.stages[0].reads
    earlier = [other.name for other in effective_plans(workspace, recipe) if _comes_before(other, plan)][::-1]
    for name in [required] if required else earlier:
        if workspace.manifest(name).is_file():
            return Manifest.read(workspace.manifest(name))
    raise PrepError(f"{plan.name} has no input yet.", f"First: prep {required or registry.ORDER[0]}")


def is_idle(plan: StagePlan) -> bool:
    """Whether a stage would change no record."""
    return all(stage.idle for stage in plan.stages)


def stage_statuses(workspace: Workspace, recipe: Recipe) -> Iterator[StageStatus]:
    """The status of every stage, in order. Reads manifests' footers and file times; runs nothing."""
    source = read_if_valid(workspace.manifest("sources"))
    (waiting, notes), cause = _sources_changed(workspace, recipe, source), True
    for plan in effective_plans(workspace, recipe):
        manifest, given = read_if_valid(workspace.manifest(plan.name)), tuple(map(str, overrides(recipe, plan)))
        by_hand = CHECKS[plan.name](workspace) if plan.name in CHECKS and manifest is not None else ""
        findings = (Outdated(plan.name, by_hand, "prep adopt", by_run=False),) if by_hand else ()
        if (own := plan.stages[0].own_source(workspace, _no_progress)) is not None:
            source = read_if_valid(own_source_path(plan, workspace))
            waiting, cause = ("" if _is(source, own[1]) else "its folder was changed"), True
        if manifest is None:
            unreadable = workspace.manifest(plan.name).is_file()
            yield StageStatus(plan, None, _UNREADABLE if unreadable else "not run yet", True, given, notes)
            waiting, source, cause = waiting or f"{plan.name} has not run", None, False
        elif waiting or source is None:
            yield StageStatus(plan, manifest, waiting, cause, given, notes, findings)
            cause = False
        else:
            why = why_stale(plan, manifest, source, workspace)
            yield StageStatus(plan, manifest, why or "", True, given, notes, findings)
            source, waiting, cause = manifest, f"{plan.name} is not up to date" if why else "", False
        notes = ()


def _sources_changed(workspace: Workspace, recipe: Recipe, source: Manifest | None) -> tuple[str, tuple[str, ...]]:
    """Why the manifest of the images is not current, empty when it is; and which folders are not here."""
    try:
        found = scan(workspace, recipe, _no_progress)
    except PrepError as error:
        return error.wrong.rstrip("."), ()
    return "" if lists_same_images(source, found) else _IMAGES, absent_notes(found)


def absent_notes(found: SourceScan) -> tuple[str, ...]:
    """What a workspace without its images cannot do."""
    folders = ", ".join(f"{folder}/" for folder in found.absent)
    return (f"without {folders}, which is not here: crop cannot run, and new images are not seen",) if folders else ()


def _is(source: Manifest | None, step: HistoryStep) -> bool:
    return source is not None and [had.key for had in source.history] == [step.key]


def _comes_before(one: StagePlan, other: StagePlan) -> bool:
    return registry.ORDER.index(one.name) < registry.ORDER.index(other.name)


def why_stale(
    plan: StagePlan, old: Manifest | None, source: Manifest, workspace: Workspace, need_models: bool = False
) -> str | None:
    """Why the manifest `old` differs from what its stage would write from `source` now; None when it is current.

    A model or file that is not on this machine counts as unchanged, as long as its name is; with `need_models` it is
    a PrepError.
    """
    if old is None:
        return "not run yet"
    earlier = {step.stage for step in source.history}
    had = {step.stage: step for step in old.history if step.stage not in earlier}
    if gone := had.keys() - {stage.label for stage in plan.stages}:
        return f"{', '.join(sorted(gone))} was removed from prep.toml"
    for stage in plan.stages:
        if stage.label not in had:
            return f"{stage.label} is new"
        before = had[stage.label]
        step, digests = _expected_step(stage, source, workspace, before if not need_models else None)
        why = _difference(before, step, digests)
        if why or before.key != step.key:
            return why or f"{source.path.stem} {_news(old, source)}"
    missing = (stage.missing_outputs(old, workspace) for stage in plan.stages)
    return next((f"{files} missing" for files in missing if files), None)


def _news(old: Manifest, source: Manifest) -> str:
    """Whether the stage that wrote `source` is new to the history of `old`, or only its manifest is another one."""
    return "is new" if source.history[-1].stage not in {step.stage for step in old.history} else "changed"


def _difference(before: HistoryStep, now: HistoryStep, digests: tuple[str, ...]) -> str:
    """The first of version, options and models in which two steps differ, in words; empty if none."""
    return next(history_differences(before, now, digests), "")


def expected_history(plan: StagePlan, source: Manifest, workspace: Workspace) -> tuple[HistoryStep, ...]:
    """The history steps that the plan's stages would add to the history of `source`."""
    return tuple(_expected_step(stage, source, workspace)[0] for stage in plan.stages)


def _expected_step(
    stage: Stage, source: Manifest, workspace: Workspace, before: HistoryStep | None = None
) -> tuple[HistoryStep, tuple[str, ...]]:
    """The step that a stage would record now, and which of its params are digests of what it reads.

    What is not on this machine is taken from `before`; a PrepError without it.
    """
    try:
        inputs = dict(stage.inputs(workspace))
    except PrepError:
        if before is None:
            raise
        inputs = {name: value for name, value in before.params.items() if name not in stage.params()}
    try:
        models = stage.models(workspace)
    except PrepError:
        if before is None:
            raise
        models = before.models
    params = stage.params() | inputs
    return HistoryStep(stage.label, stage.version, params, source.digest, models), tuple(inputs)


def scan_step(found: SourceScan) -> HistoryStep:
    """The history step of the sources' manifest; its input is a digest of all names, contents and roles.

    Names are those in the folders of prep.toml, so that folders and workspaces can be moved.
    """
    listing = ((r.id, found.names[r.id], r.subject, r.class_name, r.role, str(r.drop)) for r in found.records)
    return HistoryStep("scan", 2, {}, _listing_digest(listing), folders=found.folders)


def _earlier_scan_step(found: SourceScan) -> HistoryStep:
    """The step as earlier versions of prep recorded it, with paths relative to the workspace."""
    sources = {r.id: r.source for r in found.records}
    listing = ((r.id, r.source, r.subject, r.class_name, r.role, str(_earlier_drop(r, sources))) for r in found.records)
    return HistoryStep("scan", 1, {}, _listing_digest(listing))


def _earlier_drop(record: Record, sources: dict[str, str]) -> Drop | None:
    if record.drop is None or "-same" not in record.id:
        return record.drop
    return replace(record.drop, detail=f"the same file as {sources[root_of(record.id)]}")


def _listing_digest(rows: Iterable[tuple[str, ...]]) -> str:
    listing = hashlib.sha256()
    for row in rows:
        listing.update("\0".join(row).encode() + b"\n")
    return listing.hexdigest()


def lists_same_images(manifest: Manifest | None, found: SourceScan) -> bool:
    """Whether the manifest of the sources has what a scan found; where the folders lie makes no difference."""
    if manifest is None:
        return False
    return any(_is(manifest, step) for step in (scan_step(found), _earlier_scan_step(found)))


def own_source_path(plan: StagePlan, workspace: Workspace) -> Path:
    """The manifest of the records that a stage brings itself instead of reading an earlier stage's."""
    return workspace.manifest(f"{plan.name}.source")


def _no_progress(done: int, total: int) -> None:
    """Report nothing."""
