"""Which stages and taggers exist, in which order they run, and how a recipe's options make them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.errors import PrepError
from pipeline.manifest import Manifest
from pipeline.options import build_options, refuse_unknown
from pipeline.recipe import Recipe
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
# A tagger's name, and optionally a suffix for a second instance of it. It is part of a file name and of annotations.
_INSTANCE_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One step of the pipeline: a single stage, or several taggers whose annotations are joined."""

    name: str
    stages: tuple[Stage, ...]
    joined: bool = False
    given: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # on the command line, by stage label


def tables(taggers: tuple[str, ...] = ("basic",)) -> dict[str, type[Stage]]:
    """The tables that a prep.toml with these taggers may have, in the order in which `prep init` writes them."""
    tags: dict[str, type[Stage]] = {f"tag.{name}": TAGGERS[name] for name in taggers}
    return {"crop": Crop, "augment": Augment} | tags | {"merge": Merge, "build": Build, "train": Train}


def read_recipe(workspace: Workspace) -> Recipe:
    """The workspace's recipe; one without tables for a folder that has none, where only --data can be trained on."""
    return Recipe.read(workspace.recipe, ORDER) if workspace.recipe.is_file() else Recipe((), (), {})


def stage_plan(name: str, recipe: Recipe, overrides: Mapping[str, Any]) -> StagePlan:
    """A stage with the recipe's options; `overrides`, from the command line, take precedence."""
    table: dict[str, Any] = {**recipe.tables.get(name, {}), **overrides}
    if name == "build":  # prep.toml has repeats in its [[subject]] tables
        table.setdefault("repeats", [f"{subject.token}={subject.repeats}" for subject in recipe.subjects])
    if name == "merge":  # prep.toml has groups in [[group]] tables
        table.setdefault("groups", [rule for group in recipe.groups for rule in group.rules])
    given = {name: dict(overrides)} if overrides else {}
    return StagePlan(name, (build_options(STAGES[name], table, f"{RECIPE}, [{name}]"),), given=given)


def tag_plan(recipe: Recipe, overrides: Mapping[str, Mapping[str, Any]]) -> StagePlan:
    """The taggers named in `overrides`; if none, those with a table [tag.NAME] in the recipe; if none, basic."""
    tables = recipe.tables.get("tag", {})
    refuse_unknown((name for name in tables if tagger_class(name) is None), TAGGERS, f"{RECIPE}, [tag]")
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise PrepError(f"{RECIPE}, [tag]: {name} is {table!r}.", f"It must be a table: [tag.{name}].")
    names = list(overrides or tables or ("basic",))
    stages = [_tagger(name, {**tables.get(name, {}), **overrides.get(name, {})}) for name in names]
    return StagePlan("tag", tuple(stages), joined=True, given=overrides)


def tagger_class(name: str) -> type[Tagger] | None:
    """The class of a tagger by its name or by the name of a second instance of it: blip-nucleus is a Blip."""
    return TAGGERS.get(name.partition("-")[0]) if _INSTANCE_NAME.fullmatch(name) else None


def _tagger(name: str, table: Mapping[str, Any]) -> Tagger:
    cls = tagger_class(name)
    if cls is None:
        raise AssertionError(f"the unknown tagger {name} was not refused")
    tagger = build_options(cls, table, f"{RECIPE}, [tag.{name}]")
    return tagger if name == cls.name else replace(tagger, instance_name=name)


def all_stages(recipe: Recipe) -> list[StagePlan]:
    """The steps of `prep run`: augment only if prep.toml has its table, train only if prep.toml names a base model.

    The options of a training without a base model are checked all the same.
    """
    named = [name for name in ORDER if name in _ALWAYS or name in recipe.tables]
    plans = [tag_plan(recipe, {}) if name == "tag" else stage_plan(name, recipe, {}) for name in named]
    return [plan for plan in plans if plan.name != "train" or recipe.tables["train"].get("base")]


def latest_manifest(workspace: Workspace, stage: str | None = None) -> Manifest:
    """The manifest of a stage, or of the latest one that has run; PrepError if it has not run."""
    finished = [name for name in ORDER if workspace.manifest(name).is_file()]
    if not finished or (stage and stage not in finished):
        wrong = f"{stage} has not run yet." if stage else "No stage has run yet."
        raise PrepError(wrong, f"First: prep {stage or 'run'}")
    return Manifest.read(workspace.manifest(stage or finished[-1]))
