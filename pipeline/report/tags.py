"""Tags: which count, how often each is said and written, and how close it is to a subject."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.manifest import Manifest
from pipeline.options import build_options
from pipeline.record import Record
from pipeline.registry import read_recipe, stage_plan
from pipeline.report.facts import TagAssociation, TagCount
from pipeline.tag_text import format_tag, normalize_tag
from pipeline.workspace import Workspace
from stages.merge import Merge
from stages.merging import tag_counts as tag_counting
from stages.merging.suggest import SuggestOptions, suggest_plan
from stages.merging.tag_outcomes import most_certain
from stages.merging.thresholds import Thresholds, read_rules, select_tags

if TYPE_CHECKING:
    from pipeline.checks.dataset_arrays import DatasetArrays

_MOST = 100  # tags told one by one
_BONDS = 25  # tags told of a subject


@dataclass(frozen=True, slots=True)
class PredictedTag:
    """One tag above its threshold."""

    text: str
    score: float | None
    written: bool  # whether the caption has it; True where there is no caption yet


def merge_of(manifest: Manifest, workspace: Workspace) -> Merge:
    """The merge that wrote a manifest's captions; before there was one, that of prep.toml."""
    params: Mapping[str, Any] | None = next((s.params for s in manifest.history if s.stage == "merge"), None)
    if params is None:
        merge = stage_plan("merge", read_recipe(workspace), {}).stages[0]
        assert isinstance(merge, Merge)
        return merge
    known = {option.name for option in Merge.options() if option.metadata["key"]}
    return build_options(Merge, {name: value for name, value in params.items() if name in known}, str(manifest.path))


def cut_of(merge: Merge) -> Thresholds:
    """Which tags count as said: merge's own thresholds."""
    return Thresholds(merge.threshold, merge.character_threshold, read_rules(merge.thresholds), merge.mcut)


def said(record: Record, cut: Thresholds) -> Iterator[PredictedTag]:
    """The tags of an image that count, the surest first, and whether its caption has them."""
    written = {normalize_tag(part.replace("\\", "")) for part in record.caption.split(", ")}
    for a in most_certain(select_tags(record.annotations, cut)):
        yield PredictedTag(format_tag(a.text), a.score, not record.caption or normalize_tag(a.text) in written)


def tag_counts(
    manifest: Manifest, cards: DatasetArrays, merge: Merge, written: Mapping[str, int]
) -> tuple[list[TagCount], int]:
    """The most frequent tags of the set's images, and how many different ones there are; each counts once an image.

    `written` counts the captions that have a part.
    """
    import numpy as np

    names = tag_counting.TagIndex(lambda tag: tag)
    inside = np.zeros(0, bool)
    counts = np.zeros(0, np.int64)
    for rows, tags in tag_counting.predicted_tags(manifest, cut_of(merge), names):
        if len(rows) and len(inside) <= rows.max():
            inside = np.zeros(int(rows.max()) + 1, bool)
            inside[cards.rows[cards.rows < len(inside)]] = True
        more = np.bincount(tags[inside[rows]], minlength=len(names.numbers))
        counts = np.pad(counts, (0, len(more) - len(counts))) + more
    heard = {tag: int(counts[number]) for tag, number in names.numbers.items() if counts[number]}
    found = [TagCount(tag, heard.get(tag, 0), written.get(tag, 0)) for tag in {**heard, **written}]
    found.sort(key=lambda one: (-max(one.said, one.written), one.tag))
    return found[:_MOST], len(found)


def bonds(manifest: Manifest, merge: Merge, workspace: Workspace) -> dict[str, tuple[TagAssociation, ...]]:
    """By subject its most frequent tags, with the evidence of `prep merge --suggest`."""
    plan = suggest_plan(SuggestOptions(), merge, manifest, workspace)
    found: dict[str, list[TagAssociation]] = {}
    for row in sorted(plan.rows, key=lambda row: (-row.coverage, row.tag)):
        mine = found.setdefault(row.subject, [])
        if len(mine) < _BONDS:
            mine.append(TagAssociation(row.tag, row.coverage, row.prior, row.pmi, row.z, row.action, row.reason))
    return {subject: tuple(found[subject]) for subject in sorted(found)}
