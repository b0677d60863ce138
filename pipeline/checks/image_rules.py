"""What is wrong with images: cut hard, enlarged, blurred, tiny, always before the same background; gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.checks.dataset_arrays import DatasetArrays
from pipeline.checks.finding import RawFinding
from pipeline.checks.rule_context import RuleContext
from pipeline.tag_text import escape_control

LOST = 0.4  # share of an image cut away from which on what it showed may be gone; a square of 3:2 costs 0.33
ENLARGED = 1.25  # times from which on enlarging is seen as softness
BLURRED = 0.5  # sharpness as taggers/basic.py defines it: photographs in focus have 0.9, blurred ones less than this
TINY = 256  # pixels of the shorter side; Stable Diffusion 1.x was made for 512
ALWAYS = 0.9  # share of a subject's images with one background from which on it is learned with the subject
ENOUGH = 5  # images of which it makes sense to ask that


def cut_hard(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Images of which much was cut away."""
    yield RawFinding(
        "warning",
        "heavy crop loss",
        f"More than {LOST:.0%} of the image was cut away.",
        "Look at it (prep preview crop); choose the part yourself: prep crop --box NAME=L,T,W,H, or allow more shapes",
        arrays.rows[arrays.cropped_fraction > LOST],
    )


def enlarged(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Images that were too small for their size."""
    yield RawFinding(
        "warning",
        "enlarged",
        f"The image was enlarged more than {ENLARGED:g} times: the model learns its softness.",
        "Find a larger one; lower --max-upscale, or train at a smaller --resolution",
        arrays.rows[arrays.upscale > ENLARGED],
    )


def tiny(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Images with hardly a pixel."""
    import numpy as np

    side = np.minimum(arrays.width, arrays.height)
    yield RawFinding(
        "warning",
        "tiny image",
        f"The image's shorter side has less than {TINY} pixels; Stable Diffusion was made for 512.",
        "Find a larger one, or crop at a higher --resolution",
        arrays.rows[(side > 0) & (side < TINY)],
    )


def blurred(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Images whose sharpest parts are soft; what nobody measured is not judged."""
    yield RawFinding(
        "warning",
        "blurred image",
        "The image is blurred, even where it is sharpest.",
        "Leave it out: prep edit NAME --drop",
        arrays.rows[arrays.sharpness < BLURRED],
    )


def one_background(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Subjects that stand before the same background in nearly all images."""
    for (number, scene), count in sorted(arrays.backgrounds.items()):
        mine = arrays.with_role("train") & (arrays.subject == number)
        if (shown := int(mine.sum())) >= ENOUGH and arrays.subjects[number] and count >= ALWAYS * shown:
            who = escape_control(arrays.subjects[number])
            yield RawFinding(
                "warning",
                "one background",
                f"{count} of {shown} images of {who} have a {escape_control(scene)}: it will come with {who!r} wherever.",
                "Add images in other places; keep the background in the captions, so that prompts can change it",
            )


RULES: tuple[Callable[[DatasetArrays, RuleContext], Iterator[RawFinding]], ...] = (
    cut_hard,
    enlarged,
    tiny,
    blurred,
    one_background,
)
