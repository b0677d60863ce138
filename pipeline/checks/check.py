"""Applies all rules to a dataset: to captions while its manifest is read, then to the arrays; findings worst first."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pipeline.checks import (
    bucket_rules,
    caption_rules,
    contradiction_rules,
    flip_rules,
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

CAPTION_RULES = (*caption_rules.RULES, *flip_rules.RULES)  # about one caption each
SET_RULES = (  # about the dataset as a whole, in the order in which findings of one severity are shown
    *set_rules.RULES,
    *contradiction_rules.RULES,
    *trigger_rules.RULES,
    *bucket_rules.RULES,
    *image_rules.RULES,
)


def check(
    manifest: Manifest, workspace: Workspace, targets: TrainingTargets | None = None, report: ProgressFn | None = None
) -> Iterator[Finding]:
    """What is wrong with the dataset of a manifest, worst first.

    With `report`, images that no tagger measured are opened and measured, and the measures cached; without it,
    only recorded measures count. Stored CLIP vectors are read; none are computed. PrepError when the manifest or the
    merge plan is damaged.
    """
    context, collector = build_context(manifest, workspace, targets or TrainingTargets()), FindingCollector()
    arrays = load_arrays(apply_caption_rules(read_pages(manifest), context, collector), context.targets.repeats)
    if arrays is None:
        collector.add(
            [RawFinding("error", "no images", "There is no image to train on.", "See what is to do: prep status")]
        )
    else:
        if report is not None:
            collector.add(_missing_images(manifest, workspace))
            arrays = measure_missing(arrays, manifest, workspace, report)
        collector.add(apply_set_rules(arrays, context))
        collector.add(vector_rules.apply_vector_rules(arrays, manifest, workspace))
    yield from collector.findings(lambda rows: image_names(manifest, rows))


def raise_on_errors(findings: Iterable[Finding], command: str = "prep check") -> None:
    """Raise PrepError when there are errors; log how many warnings there are. `command` shows them."""
    findings = list(findings)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        rules = ", ".join(f"{error.rule} ({error.count:,})" if error.count else error.rule for error in errors)
        raise PrepError(
            f"The dataset should not be trained on: {rules}.",
            f"See them: {command}; to train anyway, add: --skip-checks",
        )
    if warnings := sum(finding.severity == "warning" for finding in findings):
        log.warning("%s has %d warning%s about the dataset", command, warnings, "s" if warnings > 1 else "")


def apply_caption_rules(
    pages: Iterable[RowPage], context: RuleContext, collector: FindingCollector
) -> Iterator[tuple[CaptionPage, np.ndarray]]:
    """Apply the rules about captions; yields each page with the values that its captions name."""
    split = CaptionSplitter()
    for columns in pages:
        page = CaptionPage(columns, split(columns.column("caption")))
        for rule in CAPTION_RULES:
            collector.add(rule(page, context))
        yield page, named_values(page)


def apply_set_rules(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """The findings of the rules about the dataset as a whole."""
    for rule in SET_RULES:
        yield from rule(arrays, context)


def _missing_images(manifest: Manifest, workspace: Workspace) -> Iterator[RawFinding]:
    if count := manifest.missing_images(workspace):
        what = "image is" if count == 1 else "images are"
        yield RawFinding(
            "error", "images missing", f"{count:,} {what} missing in images/.", "Make them again: prep run"
        )
