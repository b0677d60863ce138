"""Brings stages up to date: finds the input, skips what is current, and runs the rest."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.by_hand import changed_by_hand
from pipeline.errors import PrepError
from pipeline.execution import RunSettings, StageExecution, join_annotations
from pipeline.given_options import command_line, forget, lasting, remember, undone
from pipeline.history import HistoryStep
from pipeline.manifest import ImageCounts, Manifest, read_if_valid, write_manifest
from pipeline.moved_folders import follow_moved_folders
from pipeline.orphans import unapplied_decisions
from pipeline.progress import Progress
from pipeline.recipe import Recipe
from pipeline.record import Record
from pipeline.registry import ORDER, StagePlan, all_stages, stage_plan
from pipeline.sources import SourceScan, scan
from pipeline.staleness import (
    Outdated,
    absent_notes,
    expected_history,
    input_manifest,
    is_idle,
    lists_same_images,
    outdated_input,
    own_source_path,
    scan_step,
    why_stale,
)
from pipeline.workspace import RECIPE, Workspace
from training.train import Train

if TYPE_CHECKING:
    from pipeline.checks.rule_context import TrainingTargets
    from training.dry_run import RunEstimate


# What to do about images that were dropped for a reason; the most frequent reason's hint is shown.
_KEEP = {
    "too small": "Smaller crops: prep crop --resolution 512; or enlarged ones: prep crop --allow-upscale. ",
    "too much cropped": "Allow more to be cut away: prep crop --max-cropped 0.9. ",
    "dropped by hand": "Put them back: prep edit --filter dropped --restore, then prep merge. ",
}


@dataclass(frozen=True, slots=True)
class StageResult:
    """A stage's manifest, and whether it had to be computed."""

    name: str
    manifest: Manifest
    before: ImageCounts | None  # counts of the manifest that the stage read; None when it read the sources
    worked: bool  # False: it was up to date
    seconds: float
    others: dict[str, int] = field(default_factory=dict)  # files in the source folders that are not images, by suffix
    notes: tuple[str, ...] = ()  # what the stage reports about the manifest
    stale: tuple[Outdated, ...] = ()  # what is newer than the manifest that the stage read

    @property
    def counts(self) -> ImageCounts:
        return self.manifest.counts


def run_all(workspace: Workspace, recipe: Recipe, settings: RunSettings) -> Iterator[StageResult]:
    """Bring all stages up to date, in order. The options of all are validated before the first one works."""
    plans = [plan for plan in all_stages(recipe) if not is_idle(plan) or workspace.manifest(plan.name).is_file()]
    source, found = find_sources(workspace, recipe, settings)
    if any(plan.name == "build" for plan in plans):
        _discards_changes(workspace, settings)  # before any stage works
    for plan in plans:
        source = own_source(plan, workspace, settings) or source
        returned = undone(workspace, recipe, plan.name)
        _require_sources(plan, source, found, workspace, settings)
        result = _update_checked(plan, source, workspace, recipe, settings)
        forget(workspace, plan.name)
        result = replace(result, notes=(*returned, *result.notes, *_decision_notes(plan, workspace)))
        yield _with_scan(result, found) if plan is plans[0] else result
        require_images(result)
        source = result.manifest


def run_stage(plan: StagePlan, workspace: Workspace, recipe: Recipe, settings: RunSettings) -> StageResult:
    """Bring one stage up to date with the manifest of the nearest earlier stage."""
    settings = replace(settings, need_models=True)
    if plan.name == ORDER[0]:
        source, found = find_sources(workspace, recipe, settings)
        _require_sources(plan, source, found, workspace, settings)
        result = _with_scan(update_stage(plan, source, workspace, settings), found)
    else:
        if any(stage.needs_sources for stage in plan.stages):
            with Progress("scan", settings.quiet) as progress:
                follow_moved_folders(workspace, scan(workspace, recipe, progress))
        source = own_source(plan, workspace, settings) or input_manifest(plan, workspace, recipe)
        result = _update_checked(plan, source, workspace, recipe, settings)
    remember(workspace, recipe, plan)
    stale = tuple(outdated_input(workspace, recipe, plan))
    if stale:
        last = Outdated(plan.name, "its input is not up to date", command_line(plan), False, stale[0].by_run)
        stale = (*stale, last)
    notes = (*lasting(recipe, plan), *result.notes, *_decision_notes(plan, workspace))
    return replace(result, notes=notes, stale=stale)


def _decision_notes(plan: StagePlan, workspace: Workspace) -> tuple[str, ...]:
    """Which of people's decisions do not apply to any image, said where captions are made."""
    why = unapplied_decisions(workspace) if plan.name in ("tag", "merge") else ""
    return (f"{why}. prep adopt takes them over",) if why else ()


def _with_scan(result: StageResult, found: SourceScan) -> StageResult:
    """The result of the first stage, with what the scan says of the folders."""
    return replace(result, others=found.others, notes=(*absent_notes(found), *result.notes))


def require_images(result: StageResult) -> None:
    """PrepError when a stage left no image to train on: its reasons, and what to do about the most frequent one."""
    if result.name == "train" or any(_training_images(result.manifest)):
        return
    counts = result.counts
    reasons = sorted(counts.dropped.items(), key=lambda item: -item[1])
    hint = next((_KEEP[reason] for reason, _ in reasons if reason in _KEEP), "")
    listed = ", ".join(f"{reason} {count:,}" for reason, count in reasons)
    others = f", except {counts.images:,} for regularization" if counts.images else ""
    raise PrepError(
        f"After {result.name} there is no image to train on: {counts.found:,} found{others}; dropped: {listed}.",
        f"{hint}Each image and its reason: prep preview {result.name} --all",
    )


def _training_images(manifest: Manifest) -> Iterator[bool]:
    """Whether each image is one to train on."""
    for table in manifest.tables(["role", "drop.reason"]):
        drops = table.column("drop").to_pylist()
        for role, drop in zip(table.column("role").to_pylist(), drops, strict=True):
            yield role == "train" and drop is None


def _require_sources(
    plan: StagePlan, source: Manifest, found: SourceScan, workspace: Workspace, settings: RunSettings
) -> None:
    """PrepError when a stage has to read the user's images and their folder does not exist."""
    if not found.absent or not any(stage.needs_sources for stage in plan.stages):
        return
    if why := why_stale(plan, read_if_valid(workspace.manifest(plan.name)), source, workspace):
        raise PrepError(
            f"{plan.name} has to run ({why}), and the images in {', '.join(found.absent)} are not here.",
            f"Copy them there, or write where they are under 'folder' in {RECIPE}.",
        )


def dry_run_stage(plan: StagePlan, workspace: Workspace, recipe: Recipe, settings: RunSettings) -> RunEstimate:
    """A short trial of the plan's training; the run itself stays as it is."""
    from training.dry_run import dry_run

    train = plan.stages[0]
    assert isinstance(train, Train)
    source = own_source(plan, workspace, settings) or input_manifest(plan, workspace, recipe)
    if not settings.skip_checks:
        _refuse_errors(source, workspace, recipe, plan)
    with Progress("dry run", settings.quiet) as progress:
        return dry_run(train.config, source, workspace, progress)


def training_targets(recipe: Recipe, plan: StagePlan | None = None) -> TrainingTargets:
    """What the rules of `prep check` need to know of the planned training, by default the one in prep.toml."""
    from pipeline.checks.rule_context import TrainingTargets

    train = (plan or stage_plan("train", recipe, {})).stages[0]
    assert isinstance(train, Train)
    repeats = {subject.token: subject.repeats for subject in recipe.subjects}
    captions = train.config.captions
    return TrainingTargets(
        train.config.optimizer.batch_size,
        captions.max_token_length,
        captions.keep_separator,
        captions.weighted_captions,
        repeats,
        captions.wildcards,
        train.config.dataset.random_flip,
        captions.secondary_separator,
    )


def _update_checked(
    plan: StagePlan, source: Manifest, workspace: Workspace, recipe: Recipe, settings: RunSettings
) -> StageResult:
    """Bring a stage up to date.

    PrepError before training on a dataset in which `prep check` finds errors, and before building over changes that
    were made by hand.
    """
    if plan.name == "train" and not settings.skip_checks:
        old = read_if_valid(workspace.manifest(plan.name))
        if _must_run(plan, old, source, workspace, settings):
            _refuse_errors(source, workspace, recipe, plan)
    discards = plan.name == "build" and _discards_changes(workspace, settings)
    return update_stage(plan, source, workspace, settings, force=discards)


def _discards_changes(workspace: Workspace, settings: RunSettings) -> bool:
    """Whether a build replaces changes that were made by hand in dataset/; PrepError unless the settings allow it."""
    changes = changed_by_hand(workspace)
    if changes and not settings.discard_changes:
        raise PrepError(
            f"dataset/ was changed by hand since prep built it: {changes}.",
            "Take that over: prep adopt    or build over it, and keep it as a backup: prep build --discard-changes",
        )
    return bool(changes)


def _refuse_errors(source: Manifest, workspace: Workspace, recipe: Recipe, plan: StagePlan) -> None:
    """PrepError when `prep check` finds an error in the dataset to train on."""
    from pipeline.checks.check import check, raise_on_errors

    raise_on_errors(check(source, workspace, training_targets(recipe, plan)), _check_command(plan))


def _check_command(plan: StagePlan) -> str:
    """The command that shows what is wrong with the dataset of a training."""
    train = plan.stages[0]
    assert isinstance(train, Train)
    options = train.config.dataset
    words = ["prep", "check", *([options.data] if options.data else ())]
    words += ["--reg-data", options.reg_data] if options.reg_data else []
    words += ["--resolution", str(options.resolution)] if options.resolution else []
    return shlex.join(words)


def update_stage(
    plan: StagePlan, source: Manifest, workspace: Workspace, settings: RunSettings, force: bool = False
) -> StageResult:
    """Bring one stage up to date with its input; works only if something changed, or with `force`."""
    target = workspace.manifest(plan.name)
    old = read_if_valid(target)
    before = source.counts if source.path.stem != "sources" else None
    if old is not None and not force and not _must_run(plan, old, source, workspace, settings):
        return StageResult(plan.name, old, before, False, 0.0, notes=_notes(plan, old, False))
    for stage in plan.stages:
        stage.check_input(source)
    workspace.sweep()
    with Progress(plan.name, settings.quiet) as progress:
        if plan.joined:
            parts = [StagePlan(f"{plan.name}.{stage.label}", (stage,)) for stage in plan.stages]
            members = [update_stage(part, source, workspace, settings).manifest for part in parts]
            history = (*source.history, *(member.history[-1] for member in members))
            manifest = write_manifest(target, join_annotations(source, members), history)
        else:
            (step,) = expected_history(plan, source, workspace)
            execution = StageExecution(plan.stages[0], source, workspace, settings, progress)
            manifest = execution.run(target, step)
        return StageResult(plan.name, manifest, before, True, progress.seconds, notes=_notes(plan, manifest, True))


def _must_run(
    plan: StagePlan, old: Manifest | None, source: Manifest, workspace: Workspace, settings: RunSettings
) -> bool:
    """Whether a stage's manifest is not current, or the options ask for the stage to run all the same."""
    why = why_stale(plan, old, source, workspace, settings.need_models)
    return why is not None or any(stage.forced for stage in plan.stages)


def _notes(plan: StagePlan, manifest: Manifest, worked: bool) -> tuple[str, ...]:
    return tuple(note for stage in plan.stages if worked or not stage.notes_once for note in stage.notes(manifest))


def find_sources(workspace: Workspace, recipe: Recipe, settings: RunSettings) -> tuple[Manifest, SourceScan]:
    """The manifest of the user's images, written again when a file was added, removed or changed."""
    with Progress("scan", settings.quiet) as progress:
        found = scan(workspace, recipe, progress)
    if not any(record.role == "train" for record in found.records):
        folders = ", ".join(subject.folder for subject in recipe.subjects)
        raise PrepError(f"There are no images in {folders}.", "Put images there, or change 'folder' in prep.toml.")
    target = workspace.manifest("sources")
    if lists_same_images(read_if_valid(target), found):
        follow_moved_folders(workspace, found)
        return Manifest.read(target), found
    return write_manifest(target, [found.records], (scan_step(found),)), found


def own_source(plan: StagePlan, workspace: Workspace, settings: RunSettings) -> Manifest | None:
    """The manifest of the records that a stage brings itself; None if it reads an earlier stage's."""
    with Progress("read", settings.quiet) as progress:
        own = plan.stages[0].own_source(workspace, progress)
    return own and _write_if_changed(own_source_path(plan, workspace), *own)


def _write_if_changed(target: Path, records: list[Record], step: HistoryStep) -> Manifest:
    """The manifest of these records, written only if the file there has another history."""
    if (old := read_if_valid(target)) is not None and old.history == (step,):
        return old
    return write_manifest(target, [records], (step,))
