"""Rules about flipped images: captions that say left, right or text, which is no longer true of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pipeline.checks.finding import RawFinding
from pipeline.checks.rule_context import CaptionPage, RuleContext

if TYPE_CHECKING:
    import numpy as np

_SIDES = r"(?i)(?:^|[^a-z])(?:left|right)(?:[^a-z]|$)"
_WRITING = r"(?i)(?:^|[^a-z])(?:text|watermark|signature|logo|lettering|writing|speech bubble)(?:[^a-z]|$)"


def flipped_copies(page: CaptionPage, context: RuleContext) -> Iterator[RawFinding]:
    """Flipped copies whose captions are those of the image as it was."""
    import pyarrow.compute as pc

    flipped = pc.fill_null(page.columns.column("transform.flip"), False).to_numpy(zero_copy_only=False)
    if not context.sides_swapped:
        yield RawFinding(
            "warning",
            "flipped left and right",
            "The caption of a flipped copy says left or right, as the image was before it was flipped.",
            "Swap them: prep merge --swap-sides; or leave the copy out: prep edit ID --drop",
            page.columns.rows[flipped & _saying(page, _SIDES)],
        )
    yield RawFinding(
        "warning",
        "flipped text",
        "The caption of a flipped copy says that there is text, a logo or a signature: the model learns it mirrored.",
        "Leave the copy out: prep edit ID --drop; the ids are in: prep preview merge",
        page.columns.rows[flipped & _saying(page, _WRITING)],
    )


def random_flips(page: CaptionPage, context: RuleContext) -> Iterator[RawFinding]:
    """Images that training flips at random, while their captions stay."""
    if not context.targets.random_flip:
        return
    for what, pattern in (("left or right", _SIDES), ("text, a logo or a signature", _WRITING)):
        yield RawFinding(
            "warning",
            "random flip",
            f"Training flips images at random, but the caption says {what}, which is wrong of half of them.",
            "Train without it: random_flip = false under [train] in prep.toml"
            if not context.external
            else "Train without --random-flip.",
            page.columns.rows[_saying(page, pattern)],
        )


def _saying(page: CaptionPage, pattern: str) -> np.ndarray:
    """Which captions match a pattern."""
    import pyarrow.compute as pc

    matches = pc.match_substring_regex(page.columns.column("caption"), pattern)
    result: np.ndarray = pc.fill_null(matches, False).to_numpy(zero_copy_only=False)
    return result


RULES: tuple[Callable[[CaptionPage, RuleContext], Iterator[RawFinding]], ...] = (flipped_copies, random_flips)
