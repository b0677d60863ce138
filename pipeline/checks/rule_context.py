"""What rules know beside the pictures: what merge absorbed, what training will ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.checks.caption_pages import Page
from pipeline.checks.caption_parts import Chunks
from pipeline.clip_tokens import WINDOW
from pipeline.manifest import Manifest
from pipeline.workspace import Workspace
from stages.merging.plan import Plan, read_plan, split_rule


@dataclass(frozen=True, slots=True)
class Aims:
    """What will be trained, as far as rules must know it."""

    batch: int = 1  # pictures per step
    tokens: int = WINDOW  # of a caption that the model is told
    separator: str = ""  # what ends the part of a caption that stays in place
    repeats: Mapping[str, int] = field(default_factory=dict)  # by subject, for pictures that have no folder yet


@dataclass(frozen=True, slots=True)
class Facts:
    """All that rules know beside the pictures themselves."""

    aims: Aims
    subjects: frozenset[str]  # the tokens of the set
    absorbed: Mapping[str, frozenset[str]] = field(default_factory=dict)  # by subject: tags that merge left out
    triggered: bool = True  # whether captions are meant to name their subject
    foreign: bool = False  # whether others laid the folders out


@dataclass(frozen=True, slots=True)
class Look:
    """Some pictures and their captions' pieces: what a rule about captions looks at."""

    page: Page
    chunks: Chunks


def facts_of(manifest: Manifest, workspace: Workspace, aims: Aims) -> Facts:
    """What a manifest's history and the accepted plan say; PrepError when the plan is damaged."""
    subjects = frozenset(manifest.distinct("subject") - {""})
    merged = next((step.params for step in manifest.history if step.stage == "merge"), {})
    plan = read_plan(workspace) or Plan(())
    rules = [split_rule(rule, subjects) for rule in merged.get("absorb", ())]
    absorbed = {
        token: plan.tags("absorb", token) | {tag for owner, tag in rules if owner in ("", token)} for token in subjects
    }
    form = f"{merged.get('template', '{trigger}')} {merged.get('trigger', '{token}')}"
    named = "{token}" in form and ("{trigger}" in form or "{token}" in str(merged.get("template")))
    return Facts(aims, subjects, absorbed, named)
