"""All rules over one set: a single pass over its manifest, then over its cards; findings come worst first."""

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
from pipeline.checks.caption_pages import RowPage, names, pages
from pipeline.checks.caption_parts import CaptionSplitter
from pipeline.checks.contradiction_rules import features
from pipeline.checks.dataset_arrays import DatasetArrays, load_arrays
from pipeline.checks.finding import Finding, FindingCollector, RawFinding
from pipeline.checks.image_measures import fill
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
    manifest: Manifest, workspace: Workspace, aims: TrainingTargets | None = None, report: ProgressFn | None = None
) -> Iterator[Finding]:
    """What is wrong with what a manifest would have trained, worst first.

    With `report`, images that no tagger measured are opened and measured once, which is remembered; without it
    only what is recorded counts. Vectors that CLIP gave are read where they are stored, never made. PrepError when
    the manifest or the merge plan is damaged.
    """
    facts, tally = build_context(manifest, workspace, aims or TrainingTargets()), FindingCollector()
    cards = load_arrays(read_captions(pages(manifest), facts, tally), facts.aims.repeats)
    if cards is None:
        tally.add(
            [RawFinding("error", "no images", "There is no image to train on.", "prep status says what is to do")]
        )
    else:
        if report is not None:
            tally.add(_gone(manifest, workspace))
            cards = fill(cards, manifest, workspace, report)
        tally.add(run_set_rules(cards, facts))
        tally.add(vector_rules.run_rules(cards, manifest, workspace))
    yield from tally.findings(lambda rows: names(manifest, rows))


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


def read_captions(
    found: Iterable[RowPage], facts: RuleContext, tally: FindingCollector
) -> Iterator[tuple[CaptionPage, np.ndarray]]:
    """Pages and what their captions say of features, after the rules about captions have seen them."""
    cutter = CaptionSplitter()
    for page in found:
        look = CaptionPage(page, cutter(page.column("caption")))
        for rule in CAPTION_RULES:
            tally.add(rule(look, facts))
        yield look, features(look)


def run_set_rules(cards: DatasetArrays, facts: RuleContext) -> Iterator[RawFinding]:
    """What the rules about the whole set say."""
    for rule in SET_RULES:
        yield from rule(cards, facts)


def _gone(manifest: Manifest, workspace: Workspace) -> Iterator[RawFinding]:
    if count := manifest.missing_images(workspace):
        word = "image" if count == 1 else "images"
        yield RawFinding("error", "images gone", f"{count:,} {word} of the set not found in images/.", "prep run")
