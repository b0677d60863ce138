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


@dataclass(frozen=True, slots=True)
class TrainingTargets:
    """How the dataset will be trained on, as far as rules need it."""

    batch_size: int = 1  # images per step
    max_tokens: int = WINDOW  # CLIP tokens of a caption that the text encoder is given
    keep_separator: str = ""  # text that ends the fixed tags of a caption
    weighted: bool = False  # whether brackets in captions are weights
    repeats: Mapping[str, int] = field(default_factory=dict)  # by subject, for images without a folder


@dataclass(frozen=True, slots=True)
class RuleContext:
    """All that rules know besides the images."""

    targets: TrainingTargets
    subjects: frozenset[str]  # the tokens of the dataset
    absorbed: Mapping[str, frozenset[str]] = field(default_factory=dict)  # by subject: tags that its trigger replaces
    expects_trigger: bool = True  # whether captions contain their subject's token
    external: bool = False  # whether prep did not build the folders


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
    form = f"{merged.get('template', '{trigger}')} {merged.get('trigger', '{token}')}"
    named = "{token}" in form and ("{trigger}" in form or "{token}" in str(merged.get("template")))
    return RuleContext(targets, subjects, absorbed, named)
