"""prep check: the manifest that is checked, and CLIP scores of its captions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from pipeline.manifest import Manifest
from pipeline.recipe import Recipe
from pipeline.registry import stage_plan
from pipeline.run import training_targets
from pipeline.stage import ProgressFn
from pipeline.workspace import Workspace
from training.train import Train

if TYPE_CHECKING:
    from pipeline.checks.finding import Finding

_LATEST = ("build", "merge")


def manifest_to_check(workspace: Workspace) -> Manifest:
    """The manifest of build or, before that, of merge; PrepError when there is neither."""
    for stage in _LATEST:
        if workspace.manifest(stage).is_file():
            return Manifest.read(workspace.manifest(stage))
    raise PrepError("There are no captions to check yet.", "First: prep merge")


def score_captions(manifest: Manifest, workspace: Workspace, model: str, report: ProgressFn) -> None:
    """Embed a dataset's captions with the CLIP model that embedded its images, so that rules know how well they fit.

    `model` is a folder or hub id, or ARCHITECTURE=FILE. PrepError when it is not the model that embedded the images.
    """
    from pipeline.checks.caption_vectors import embed_captions, find_caption_model

    name, _, pretrained = model.partition("=")
    embed_captions(manifest, workspace, find_caption_model(manifest, workspace, name, pretrained), report)


def check_folders(
    workspace: Workspace, recipe: Recipe, asked: Mapping[str, Any], caption_extension: str, report: ProgressFn
) -> list[Finding]:
    """What is wrong with the folders that `asked` names, as options of train: data, reg_data and resolution.

    They are read as `prep train` with these options and the recipe's others would read them.
    """
    from pipeline.checks.external_folders import check_folder

    plan = stage_plan("train", recipe, asked)
    train = plan.stages[0]
    assert isinstance(train, Train)
    layout = train.layout(workspace)
    assert layout is not None
    targets = replace(training_targets(recipe, plan), repeats={})
    return list(check_folder(replace(layout, caption_extension=caption_extension), workspace, targets, report))


def folder_workspace(start: Path) -> Workspace:
    """The workspace that holds `start`, whose training options count for folders too; else `start` itself."""
    try:
        return Workspace.find(start)
    except PrepError:
        return Workspace(start.resolve())
