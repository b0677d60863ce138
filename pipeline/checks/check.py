"""All rules over one set: a single pass over its manifest, then over its arrays; findings come worst first."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pipeline.checks import (
    bucket_rules,
    caption_rules,
    contradiction_rules,
    image_rules,
    set_rules,
    trigger_rules,
    vector_rules,
)
from pipeline.checks.caption_pages import RowPage, image_names, read_pages
from pipeline.checks.caption_parts import CaptionSplitter
from pipeline.checks.contradiction_rules import named_values
from pipeline.checks.dataset_arrays import DatasetArrays, load_arrays
from pipeline.checks.finding import Finding, FindingCollector, RawFinding
from pipeline.checks.image_measures import measure_missing
from pipeline.checks.rule_context import CaptionPage, RuleContext, TrainingTargets, build_context
from pipeline.errors import PrepError
from pipeline.manifest import Manifest
from pipeline.stage import ProgressFn
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger("prep")

CAPTION_RULES = caption_rules.RULES  # about one caption each
SET_RULES = (  # about the set as a whole, in the order in which people should hear of it
    *set_rules.RULES,
    *contradiction_rules.RULES,
    *trigger_rules.RULES,
    *bucket_rules.RULES,
    *image_rules.RULES,
)


def check(
    manifest: Manifest, workspace: Workspace, targets: TrainingTargets | None = None, report: ProgressFn | None = None
) -> Iterator[Finding]:
    """What is wrong with what a manifest would have trained, worst first.

    With `report`, images that no tagger measured are opened and measured once, which is remembered; without it
    only what is recorded counts. Vectors that CLIP gave are read where they are stored, never made. PrepError when
    the manifest or the merge plan is damaged.
    """
    context, collector = build_context(manifest, workspace, targets or TrainingTargets()), FindingCollector()
    arrays = load_arrays(apply_caption_rules(read_pages(manifest), context, collector), context.targets.repeats)
    if arrays is None:
        collector.add(
            [RawFinding("error", "no images", "There is no image to train on.", "prep status says what is to do")]
        )
    else:
        if report is not None:
            collector.add(_gone(manifest, workspace))
            arrays = measure_missing(arrays, manifest, workspace, report)
        collector.add(apply_set_rules(arrays, context))
        collector.add(vector_rules.apply_vector_rules(arrays, manifest, workspace))
    yield from collector.findings(lambda rows: image_names(manifest, rows))


def raise_on_errors(findings: Iterable[Finding]) -> None:
    """Raise PrepError when there are errors; say on standard error that there are warnings."""
    found = list(findings)
    errors = [finding for finding in found if finding.severity == "error"]
    if errors:
        told = ", ".join(f"{one.rule} ({one.count:,})" if one.count else one.rule for one in errors)
        raise PrepError(
            f"The data set should not be trained on: {told}.", "See: prep check; or train all the same: --skip-checks"
        )
    if warned := sum(finding.severity == "warning" for finding in found):
        log.warning("prep check has %d warning%s about the data set", warned, "s" if warned > 1 else "")


def apply_caption_rules(
    pages: Iterable[RowPage], context: RuleContext, collector: FindingCollector
) -> Iterator[tuple[CaptionPage, np.ndarray]]:
    """Pages and what their captions say of features, after the rules about captions have seen them."""
    split = CaptionSplitter()
    for columns in pages:
        page = CaptionPage(columns, split(columns.column("caption")))
        for rule in CAPTION_RULES:
            collector.add(rule(page, context))
        yield page, named_values(page)


def apply_set_rules(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """What the rules about the whole set say."""
    for rule in SET_RULES:
        yield from rule(arrays, context)


def _gone(manifest: Manifest, workspace: Workspace) -> Iterator[RawFinding]:
    if count := manifest.missing_images(workspace):
        word = "image" if count == 1 else "images"
        yield RawFinding("error", "images gone", f"{count:,} {word} of the set not found in images/.", "prep run")
