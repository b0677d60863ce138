"""The merge plan: what becomes of each tag of each subject. It is suggested, accepted, changed and undone."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from pipeline.errors import PrepError, first_line
from pipeline.parquet_rows import read_metadata, read_rows, write_rows
from pipeline.tag_text import normalize_tag, split_tags
from pipeline.workspace import Workspace, write_atomic
from stages.merging.tag_taxonomy import TagTaxonomy

Action = Literal["absorb", "review", "drop", "keep"]  # in the order of their display
Rules = Mapping[Action, tuple[str, ...]]  # 'beard' for all subjects, 'smith=beard' for one
SUGGESTION, PLAN, HISTORY = "decisions/suggested.parquet", "decisions/plan.parquet", "decisions/plan.earlier"
USER_DECISION = "you decided so"
_META = "prep plan"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class MergeRow:
    """One tag of one subject: the evidence, the action, and its reason."""

    subject: str
    tag: str  # normalized
    count: float  # images that have it; near-duplicates count as one image
    coverage: float  # their share of the subject's images, 0 to 1
    prior: float | None  # share of other images that have it; None: not known
    pmi: float | None  # bits
    z: float | None
    action: Action
    reason: str


@dataclass(frozen=True, slots=True)
class MergePlan:
    """All rows, and what they are based on."""

    rows: tuple[MergeRow, ...]
    source: str = ""  # digest of the manifest that was counted
    notes: tuple[str, ...] = ()  # what was counted and how

    @property
    def digest(self) -> str:
        """sha256 over the absorbed and the dropped tags, which change captions; empty if there are none."""
        removed = [
            (r.subject, r.tag, r.action) for r in sorted(self.rows, key=_order) if r.action in ("absorb", "drop")
        ]
        return hashlib.sha256(json.dumps(removed, ensure_ascii=False).encode()).hexdigest() if removed else ""

    def tags(self, action: Action, subject: str) -> frozenset[str]:
        return frozenset(row.tag for row in self.rows if row.action == action and row.subject == subject)

    def changed(self, rules: Rules, taxonomy: TagTaxonomy) -> MergePlan:
        """The plan after the user's decisions. Absorbing a tag also drops the tags that it implies, unless protected.

        An implication never changes what the user decided. PrepError for a tag or a subject that the plan does
        not have, and for a tag with two actions.
        """
        wanted = [
            (row.subject, row.tag, action)
            for action, tags in rules.items()
            for rule in tags
            for row in self._named(rule)
        ]
        decided: dict[tuple[str, str], Action] = {}
        for subject, tag, action in wanted:
            if decided.setdefault((subject, tag), action) != action:
                raise PrepError(
                    f"{tag!r} is given to --{decided[subject, tag]} and to --{action}.", "Give it to one of them."
                )
        implied = {
            (subject, parent): tag
            for (subject, tag), action in decided.items()
            if action == "absorb"
            for parent in taxonomy.parents(tag)
            if not taxonomy.protection(parent)
        }
        return replace(self, rows=tuple(_decided(row, decided, implied) for row in self.rows))

    def accepted(self, before: MergePlan | None, taxonomy: TagTaxonomy) -> MergePlan:
        """This suggestion with the user's decisions in the plan before, those about tags that are gone included."""
        decided = [row for row in before.rows if row.reason == USER_DECISION] if before else []
        known = {(row.subject, row.tag) for row in self.rows}
        gone = tuple(row for row in decided if (row.subject, row.tag) not in known)
        rules: dict[Action, tuple[str, ...]] = {}
        for row in decided:
            rules[row.action] = (*rules.get(row.action, ()), f"{row.subject}={row.tag}")
        return replace(self, rows=self.rows + gone).changed(rules, taxonomy)

    def _named(self, rule: str) -> list[MergeRow]:
        """The rows that a rule names."""
        owner, tag = split_rule(rule, {row.subject for row in self.rows})
        if rows := [row for row in self.rows if row.tag == tag and owner in ("", row.subject)]:
            return rows
        close = difflib.get_close_matches(tag, {row.tag for row in self.rows}, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else "Its tags: prep merge --suggest"
        raise PrepError(f"The plan has no tag {rule!r}.", hint)


def split_owned(rules: Iterable[str]) -> tuple[str, ...]:
    """Rules of one tag each: 'beard, hat' is two rules, and 'smith=beard, hat' two of smith."""
    found: list[str] = []
    for rule in rules:
        owner, equals, tags = rule.partition("=")
        owned = bool(equals and owner and tags)
        found += [f"{owner}={tag}" for tag in split_tags([tags])] if owned else split_tags([rule])
    return tuple(found)


def split_rule(rule: str, subjects: Iterable[str]) -> tuple[str, str]:
    """The subject, empty for all, and the normalized tag of 'beard' or 'smith=beard'; '=_=' is a tag."""
    owner, equals, tag = rule.partition("=")
    return (owner, normalize_tag(tag)) if equals and tag and owner in set(subjects) else ("", normalize_tag(rule))


def read_plan(workspace: Workspace, name: str = PLAN) -> MergePlan | None:
    """The plan of that name; None when there is none, PrepError when it is damaged."""
    import pyarrow as pa

    path = workspace.path(name)
    if not path.is_file():
        return None
    try:
        head = json.loads(read_metadata(path)[_META])
        if head["format"] > _FORMAT:
            raise PrepError(f"{path} was written by a newer prep.", "Update prep to read it.")
        rows = tuple(read_rows(path, MergeRow))
        if unknown := {row.action for row in rows} - set(get_args(Action)):
            raise ValueError(f"there is no action {min(unknown)!r}")
        return MergePlan(rows, head["source"], tuple(head["notes"]))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise PrepError(f"{path} is damaged: {first_line(error)}.", "Restore the last one: prep merge --undo") from None


def write_plan(workspace: Workspace, plan: MergePlan, name: str = PLAN) -> None:
    """Write a plan atomically."""
    head = {"format": _FORMAT, "source": plan.source, "notes": plan.notes}
    write_rows(workspace.path(name), plan.rows, MergeRow, {_META: json.dumps(head, ensure_ascii=False)})


def save_plan(workspace: Workspace, plan: MergePlan) -> bool:
    """Put a plan into effect and keep the one before for `undo_plan`; False when it is the same.

    A crash between the two writes leaves one step of undo that changes nothing.
    """
    path = workspace.path(PLAN)
    if path.is_file():
        if read_plan(workspace) == plan:
            return False
        earlier = _earlier(workspace)
        number = 1 + (int(earlier[-1].stem) if earlier else 0)
        write_atomic(workspace.path(f"{HISTORY}/{number:06d}.parquet"), path.read_bytes())
    write_plan(workspace, plan)
    return True


def undo_plan(workspace: Workspace) -> MergePlan | None:
    """Restore the plan before the last change; None when there was none. PrepError without a change to undo."""
    path = workspace.path(PLAN)
    if earlier := _earlier(workspace):
        earlier[-1].replace(path)
        return read_plan(workspace)
    if not path.is_file():
        raise PrepError("There is no plan to undo.", "Make one: prep merge --suggest, then prep merge --accept")
    path.unlink()
    return None


def _earlier(workspace: Workspace) -> list[Path]:
    """The earlier plans, oldest first."""
    return sorted(path for path in workspace.path(HISTORY).glob("*.parquet") if path.stem.isdecimal())


def _decided(
    row: MergeRow, decided: Mapping[tuple[str, str], Action], implied: Mapping[tuple[str, str], str]
) -> MergeRow:
    """A row after the decisions, and after what they imply for tags without a decision."""
    key = row.subject, row.tag
    if key in decided:
        return replace(row, action=decided[key], reason=USER_DECISION)
    if key in implied and row.reason != USER_DECISION and row.action in ("keep", "review"):
        return replace(row, action="drop", reason=f"implied by {implied[key]}")
    return row


def _order(row: MergeRow) -> tuple[str, str]:
    return row.subject, row.tag
