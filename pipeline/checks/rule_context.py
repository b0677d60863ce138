"""What rules know besides the images: what merge absorbed, and how the dataset will be trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.checks.caption_pages import RowPage
from pipeline.checks.caption_parts import CaptionParts
from pipeline.clip_tokens import WINDOW
from pipeline.manifest import Manifest
from pipeline.workspace import Workspace
from stages.merging.plan import MergePlan, read_plan, split_owned, split_rule
from training.data.folders import STEP

_CROPPED_BY = ("crop", STEP)  # steps whose option `resolution` gives the images' size


@dataclass(frozen=True, slots=True)
class TrainingTargets:
    """How the dataset will be trained on, as far as rules need it."""

    batch_size: int = 1  # images per step
    max_tokens: int = WINDOW  # CLIP tokens of a caption that the text encoder is given
    keep_separator: str = ""  # text that ends the fixed tags of a caption
    weighted: bool = False  # whether brackets in captions are weights
    repeats: Mapping[str, int] = field(default_factory=dict)  # by subject, for images without a folder
    wildcards: bool = False  # whether all lines of a caption are trained on
    random_flip: bool = False  # whether training flips images
    secondary_separator: str = ""  # text between tags that are shuffled together


@dataclass(frozen=True, slots=True)
class RuleContext:
    """All that rules know besides the images."""

    targets: TrainingTargets
    subjects: frozenset[str]  # the tokens of the dataset
    absorbed: Mapping[str, frozenset[str]] = field(default_factory=dict)  # by subject: tags that its trigger replaces
    expects_trigger: bool = True  # whether captions contain their subject's token
    external: bool = False  # whether prep did not build the folders
    sides_swapped: bool = False  # whether merge swapped left and right in captions of flipped copies
    resolution: int = 0  # to which images were cropped; 0: to none, or it is not known

    def hint(self, workspace: str, folder: str) -> str:
        """What to do: by a command in the workspace, or by hand in a folder that prep did not build."""
        return folder if self.external else workspace


@dataclass(frozen=True, slots=True)
class CaptionPage:
    """Some images and the parts of their captions, for a rule about captions."""

    columns: RowPage
    parts: CaptionParts


def build_context(manifest: Manifest, workspace: Workspace, targets: TrainingTargets) -> RuleContext:
    """The context that a manifest's history and the accepted merge plan give; PrepError when the plan is damaged."""
    subjects = frozenset(manifest.distinct("subject") - {""})
    merged = next((step.params for step in manifest.history if step.stage == "merge"), {})
    plan = read_plan(workspace) or MergePlan(())
    rules = [split_rule(rule, subjects) for rule in split_owned(merged.get("absorb", ()))]
    absorbed = {
        token: plan.tags("absorb", token) | {tag for owner, tag in rules if owner in ("", token)} for token in subjects
    }
    resolution = next((step.params.get("resolution", 0) for step in manifest.history if step.stage in _CROPPED_BY), 0)
    form = f"{merged.get('template', '{trigger}')} {merged.get('trigger', '{token}')}"
    named = "{token}" in form and ("{trigger}" in form or "{token}" in str(merged.get("template")))
    external = manifest.history[0].stage == STEP
    swapped = bool(merged.get("swap_sides"))
    return RuleContext(targets, subjects, absorbed, named or external, external, swapped, int(resolution))
