"""What rules know beside the images: what merge absorbed, what training will ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.checks.caption_pages import RowPage
from pipeline.checks.caption_parts import CaptionParts
from pipeline.clip_tokens import WINDOW
from pipeline.manifest import Manifest
from pipeline.workspace import Workspace
from stages.merging.plan import MergePlan, read_plan, split_rule


@dataclass(frozen=True, slots=True)
class TrainingTargets:
    """What will be trained, as far as rules must know it."""

    batch_size: int = 1  # images per step
    max_tokens: int = WINDOW  # of a caption that the model is told
    keep_separator: str = ""  # what ends the part of a caption that stays in place
    repeats: Mapping[str, int] = field(default_factory=dict)  # by subject, for images that have no folder yet


@dataclass(frozen=True, slots=True)
class RuleContext:
    """All that rules know beside the images themselves."""

    targets: TrainingTargets
    subjects: frozenset[str]  # the tokens of the set
    absorbed: Mapping[str, frozenset[str]] = field(default_factory=dict)  # by subject: tags that merge left out
    expects_trigger: bool = True  # whether captions are meant to name their subject
    external: bool = False  # whether others laid the folders out


@dataclass(frozen=True, slots=True)
class CaptionPage:
    """Some images and their captions' pieces: what a rule about captions looks at."""

    columns: RowPage
    parts: CaptionParts


def build_context(manifest: Manifest, workspace: Workspace, targets: TrainingTargets) -> RuleContext:
    """What a manifest's history and the accepted plan say; PrepError when the plan is damaged."""
    subjects = frozenset(manifest.distinct("subject") - {""})
    merged = next((step.params for step in manifest.history if step.stage == "merge"), {})
    plan = read_plan(workspace) or MergePlan(())
    rules = [split_rule(rule, subjects) for rule in merged.get("absorb", ())]
    absorbed = {
        token: plan.tags("absorb", token) | {tag for owner, tag in rules if owner in ("", token)} for token in subjects
    }
    form = f"{merged.get('template', '{trigger}')} {merged.get('trigger', '{token}')}"
    named = "{token}" in form and ("{trigger}" in form or "{token}" in str(merged.get("template")))
    return RuleContext(targets, subjects, absorbed, named)
