"""Tags of a report: which are predicted, how often each is predicted and in a caption, and their subjects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.manifest import Manifest
from pipeline.options import build_options
from pipeline.record import Record
from pipeline.registry import read_recipe, stage_plan
from pipeline.report.data import TagAssociation, TagCount
from pipeline.tag_text import format_tag, normalize_tag
from pipeline.workspace import Workspace
from stages.merge import Merge
from stages.merging import tag_counts as tag_counting
from stages.merging.suggest import SuggestOptions, suggest_plan
from stages.merging.tag_outcomes import most_certain
from stages.merging.thresholds import Thresholds, select_tags

if TYPE_CHECKING:
    from pipeline.checks.dataset_arrays import DatasetArrays

_TAGS = 100  # tags listed for the whole dataset
_SUBJECT_TAGS = 25  # tags listed for each subject


@dataclass(frozen=True, slots=True)
class PredictedTag:
    """One tag above its threshold."""

    text: str
    score: float | None
    in_caption: bool  # also True if there is no caption yet


def merge_of(manifest: Manifest, workspace: Workspace) -> Merge:
    """The merge options that wrote a manifest's captions; before merge has run, those of prep.toml."""
    params: Mapping[str, Any] | None = next((s.params for s in manifest.history if s.stage == "merge"), None)
    if params is None:
        merge = stage_plan("merge", read_recipe(workspace), {}).stages[0]
        assert isinstance(merge, Merge)
        return merge
    known = Merge().params().keys()
    return build_options(Merge, {name: value for name, value in params.items() if name in known}, str(manifest.path))


def predicted_tags(record: Record, thresholds: Thresholds) -> Iterator[PredictedTag]:
    """The tags of an image above their thresholds, the highest score first."""
    parts = {normalize_tag(part.replace("\\", "")) for part in record.caption.split(", ")}
    for tag in most_certain(select_tags(record.annotations, thresholds)):
        in_caption = not record.caption or normalize_tag(tag.text) in parts
        yield PredictedTag(format_tag(tag.text), tag.score, in_caption)


def tag_counts(
    manifest: Manifest, arrays: DatasetArrays, merge: Merge, caption_parts: Mapping[str, int]
) -> tuple[list[TagCount], int]:
    """The most frequent tags, and the number of distinct ones; a tag counts once per image.

    `caption_parts` holds how many captions contain each part.
    """
    import numpy as np

    names = tag_counting.TagIndex(lambda tag: tag)
    in_dataset = np.zeros(0, bool)  # by row of the manifest
    counts = np.zeros(0, np.int64)
    for rows, tags in tag_counting.predicted_tags(manifest, merge.tag_thresholds, names):
        if len(rows) and len(in_dataset) <= rows.max():
            in_dataset = np.zeros(int(rows.max()) + 1, bool)
            in_dataset[arrays.rows[arrays.rows < len(in_dataset)]] = True
        more = np.bincount(tags[in_dataset[rows]], minlength=len(names.numbers))
        counts = np.pad(counts, (0, len(more) - len(counts))) + more
    by_tag = {tag: int(counts[number]) for tag, number in names.numbers.items() if counts[number]}
    found = [TagCount(tag, by_tag.get(tag, 0), caption_parts.get(tag, 0)) for tag in {**by_tag, **caption_parts}]
    found.sort(key=lambda count: (-max(count.predicted, count.in_captions), count.tag))
    return found[:_TAGS], len(found)


def tag_associations(manifest: Manifest, merge: Merge, workspace: Workspace) -> dict[str, tuple[TagAssociation, ...]]:
    """The most frequent tags of each subject, with the evidence of `prep merge --suggest`."""
    plan = suggest_plan(SuggestOptions(), merge, manifest, workspace)
    by_subject: defaultdict[str, list[TagAssociation]] = defaultdict(list)
    for row in sorted(plan.rows, key=lambda row: (-row.coverage, row.tag)):
        if len(by_subject[row.subject]) < _SUBJECT_TAGS:
            association = TagAssociation(row.tag, row.coverage, row.prior, row.pmi, row.z, row.action, row.reason)
            by_subject[row.subject].append(association)
    return {subject: tuple(by_subject[subject]) for subject in sorted(by_subject)}
