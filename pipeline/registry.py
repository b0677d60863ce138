"""The line of stages, from a recipe's images to a trained adapter: which there are, in which order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from pipeline.manifest import Manifest
from pipeline.options import build_options, refuse_unknown
from pipeline.progress import Progress
from pipeline.recipe import Recipe
from pipeline.run import (
    RunSettings,
    StagePlan,
    StageResult,
    expected_history,
    find_sources,
    own_manifest,
    own_source,
    read_if_whole,
    scan_step,
    update_stage,
    why_stale,
)
from pipeline.sources import scan
from pipeline.stage import Stage
from pipeline.workspace import RECIPE, Workspace
from stages.augment import Augment
from stages.build import Build
from stages.crop import Crop
from stages.merge import Merge
from taggers.basic import Basic
from taggers.captioners.blip import Blip
from taggers.captioners.git import Git
from taggers.captioners.vlm import Vlm
from taggers.clip.clip import Clip
from taggers.danbooru.deepdanbooru import DeepDanbooru
from taggers.danbooru.wd14 import Wd14
from taggers.sidecar.files import Files
from taggers.tagger import Tagger
from training.train import Train

if TYPE_CHECKING:
    from pipeline.checks.rule_context import TrainingTargets
    from training.evaluation.dry_run import RunEstimate

STAGES: dict[str, type[Stage]] = {
    "crop": Crop,
    "augment": Augment,
    "merge": Merge,
    "build": Build,
    "train": Train,
}
TAGGERS: dict[str, type[Tagger]] = {
    "basic": Basic,
    "wd14": Wd14,
    "deepdanbooru": DeepDanbooru,
    "blip": Blip,
    "git": Git,
    "vlm": Vlm,
    "clip": Clip,
    "files": Files,
}
ORDER = ("crop", "augment", "tag", "merge", "build", "train")
_ALWAYS = ("crop", "tag", "merge", "build")  # part of `prep run` whether or not prep.toml has their table


def tables(taggers: tuple[str, ...] = ("basic",)) -> dict[str, type[Stage]]:
    """What a prep.toml with these taggers may hold, in the order in which `prep init` writes it."""
    tags: dict[str, type[Stage]] = {f"tag.{name}": TAGGERS[name] for name in taggers}
    return {"crop": Crop, "augment": Augment} | tags | {"merge": Merge, "build": Build, "train": Train}


# The tagger, and what tells a further setting of it apart: part of a file's name and of every signature.
_SETTING = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class StageStatus:
    """How one place of the line stands: the manifest it has, and what is to do."""

    name: str
    manifest: Manifest | None
    to_do: str  # empty: up to date


def read_recipe(workspace: Workspace) -> Recipe:
    return Recipe.read(workspace.recipe, ORDER)


def stage_plan(name: str, recipe: Recipe, overrides: Mapping[str, Any]) -> StagePlan:
    """A stage with the recipe's options, and what the command line gave on top."""
    table: dict[str, Any] = {**recipe.tables.get(name, {}), **overrides}
    if name == "build":  # repeats stand with their subjects in prep.toml
        table.setdefault("repeats", [f"{subject.token}={subject.repeats}" for subject in recipe.subjects])
    if name == "merge":  # groups are tables of their own in prep.toml
        table.setdefault("groups", [rule for group in recipe.groups for rule in group.rules])
    return StagePlan(name, (build_options(STAGES[name], table, f"{RECIPE}, [{name}]"),))


def tag_plan(recipe: Recipe, overrides: Mapping[str, Mapping[str, Any]]) -> StagePlan:
    """The taggers that were named, else those with a table [tag.NAME] in the recipe, else the built-in one."""
    tables = recipe.tables.get("tag", {})
    refuse_unknown((name for name in tables if tagger_class(name) is None), TAGGERS, f"{RECIPE}, [tag]")
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise PrepError(f"{RECIPE}, [tag]: {name} is {table!r}.", f"It must be a table: [tag.{name}].")
    names = list(overrides or tables or ("basic",))
    stages = [_tagger(name, {**tables.get(name, {}), **overrides.get(name, {})}) for name in names]
    return StagePlan("tag", tuple(stages), joined=True)


def tagger_class(name: str) -> type[Tagger] | None:
    """What stands behind a tagger's name, or behind the name of a further setting of it: blip-nucleus is a Blip."""
    return TAGGERS.get(name.partition("-")[0]) if _SETTING.fullmatch(name) else None


def _tagger(name: str, table: Mapping[str, Any]) -> Tagger:
    cls = tagger_class(name)
    if cls is None:
        raise AssertionError(f"{name} was to be refused before")
    tagger = build_options(cls, table, f"{RECIPE}, [tag.{name}]")
    return tagger if name == cls.name else replace(tagger, instance_name=name)


def all_stages(recipe: Recipe) -> list[StagePlan]:
    """All that `prep run` does: augment and train only where prep.toml has their table."""
    wanted = [name for name in ORDER if name in _ALWAYS or name in recipe.tables]
    return [tag_plan(recipe, {}) if name == "tag" else stage_plan(name, recipe, {}) for name in wanted]


def run_all(workspace: Workspace, recipe: Recipe, settings: RunSettings) -> Iterator[StageResult]:
    """Bring the whole line up to date, one stage after another; all options are checked before the first works."""
    plans = all_stages(recipe)
    source, found = find_sources(workspace, recipe, settings)
    for plan in plans:
        source = own_source(plan, workspace, settings) or source
        outcome = _bring(plan, source, workspace, recipe, settings)
        yield replace(outcome, others=found.others) if plan is plans[0] else outcome
        source = outcome.manifest


def run_stage(plan: StagePlan, workspace: Workspace, recipe: Recipe, settings: RunSettings) -> StageResult:
    """Bring one stage up to date with the nearest earlier manifest there is."""
    if plan.name != "crop":
        source = own_source(plan, workspace, settings) or input_manifest(plan, workspace)
        return _bring(plan, source, workspace, recipe, settings)
    source, found = find_sources(workspace, recipe, settings)
    return replace(update_stage(plan, source, workspace, settings), others=found.others)


def dry_run_stage(plan: StagePlan, workspace: Workspace, recipe: Recipe, settings: RunSettings) -> RunEstimate:
    """A trial of the training that a plan holds: nothing that counts as done is written."""
    from training.evaluation.dry_run import dry_run

    train = plan.stages[0]
    assert isinstance(train, Train)
    source = own_source(plan, workspace, settings) or input_manifest(plan, workspace)
    if not settings.skip_checks:
        _refuse(source, workspace, training_targets(recipe, plan))
    with Progress("trial", settings.quiet) as progress:
        return dry_run(train, source, workspace, progress)


def training_targets(recipe: Recipe, plan: StagePlan | None = None) -> TrainingTargets:
    """What the rules of prep check must know of the training that is planned, or that prep.toml asks for."""
    from pipeline.checks.rule_context import TrainingTargets

    train = (plan or stage_plan("train", recipe, {})).stages[0]
    assert isinstance(train, Train)
    repeats = {subject.token: subject.repeats for subject in recipe.subjects}
    return TrainingTargets(train.batch_size, train.max_token_length, train.keep_separator, repeats)


def _bring(
    plan: StagePlan, source: Manifest, workspace: Workspace, recipe: Recipe, settings: RunSettings
) -> StageResult:
    """Bring a place up to date; nothing is trained on a set with errors unless the user wants it."""
    if plan.name == "train" and not settings.skip_checks:
        old = read_if_whole(workspace.manifest(plan.name))
        if old is None or why_stale(plan, old, source, workspace, expected_history(plan, source, workspace)):
            _refuse(source, workspace, training_targets(recipe, plan))
    return update_stage(plan, source, workspace, settings)


def _refuse(source: Manifest, workspace: Workspace, aims: TrainingTargets) -> None:
    """PrepError when prep check finds an error in what would be trained on."""
    from pipeline.checks.check import check, raise_on_errors

    raise_on_errors(check(source, workspace, aims))


def stage_statuses(workspace: Workspace, recipe: Recipe) -> Iterator[StageStatus]:
    """How every place of the line stands; reads footers and file times, runs nothing."""
    step = scan_step(scan(workspace, recipe, lambda done, total: None))
    source = read_if_whole(workspace.manifest("sources"))
    waiting = "" if source is not None and source.history == (step,) else "images were added, removed or changed"
    for plan in all_stages(recipe):
        manifest = read_if_whole(workspace.manifest(plan.name))
        if (own := plan.stages[0].own_source(workspace, lambda done, total: None)) is not None:
            source = read_if_whole(own_manifest(plan, workspace))
            waiting = "" if source is not None and source.history == own[1:] else "its folder was changed"
        if manifest is None:
            yield StageStatus(plan.name, None, "not run yet")
            waiting, source = waiting or f"{plan.name} has not run", None
        elif waiting or source is None:
            yield StageStatus(plan.name, manifest, waiting)
        else:
            why = why_stale(plan, manifest, source, workspace, expected_history(plan, source, workspace))
            yield StageStatus(plan.name, manifest, why or "")
            source, waiting = manifest, f"{plan.name} is not up to date" if why else ""


def input_manifest(plan: StagePlan, workspace: Workspace) -> Manifest:
    """What a stage on its own reads: the manifest of the nearest earlier stage that has one."""
    wanted = plan.stages[0].reads
    earlier = (wanted,) if wanted else ORDER[: ORDER.index(plan.name)][::-1]
    for name in earlier:
        if workspace.manifest(name).is_file():
            return Manifest.read(workspace.manifest(name))
    raise PrepError(f"{plan.name} has nothing to work on.", f"First: prep {earlier[-1]}")
