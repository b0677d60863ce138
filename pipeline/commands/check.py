"""prep check: the manifest that is checked, and CLIP scores of its captions."""

from __future__ import annotations

from pipeline.errors import PrepError
from pipeline.manifest import Manifest
from pipeline.stage import ProgressFn
from pipeline.workspace import Workspace

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
