"""Rules about images: cropped hard, enlarged, blurred, tiny, always with the same background."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.checks.dataset_arrays import DatasetArrays
from pipeline.checks.finding import RawFinding
from pipeline.checks.rule_context import RuleContext
from pipeline.tag_text import escape_control

LOST = 0.4  # cropped fraction above which the subject may be cut off; a square crop of 3:2 costs 0.33
ENLARGED = 1.25  # upscale factor above which the softness is visible
BLURRED = 0.5  # sharpness as taggers/basic.py measures it: 0.9 in focus, less than this when blurred
USUAL = 512  # pixels: the least resolution of a base model
TINY = 256  # pixels of the shorter side; Stable Diffusion 1.x was made for 512
ALWAYS = 0.9  # share of a subject's images with one background from which it is learned with the subject
ENOUGH = 5  # images below which that share says nothing


def heavy_crop(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Images of which a large part was cropped."""
    yield RawFinding(
        "warning",
        "heavy crop loss",
        f"More than {LOST:.0%} of the image was cropped.",
        context.hint(
            "See it: prep preview crop; choose the crop box: prep crop --boxes NAME=LEFT,TOP,WIDTH,HEIGHT",
            "Crop it yourself around the subject, or choose the crop box in a workspace: prep import FOLDER DIR",
        ),
        arrays.rows[arrays.cropped_fraction > LOST],
    )


def enlarged(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Images that were upscaled to their size."""
    yield RawFinding(
        "warning",
        "enlarged",
        f"The image was enlarged more than {ENLARGED:g} times: the model learns its softness.",
        _enlarged_hint(context),
        arrays.rows[arrays.upscale > ENLARGED],
    )


def tiny(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Images of very few pixels."""
    import numpy as np

    side = np.minimum(arrays.width, arrays.height)
    yield RawFinding(
        "warning",
        "tiny image",
        f"The image's shorter side has fewer than {TINY} pixels; Stable Diffusion 1.x was trained at 512.",
        _tiny_hint(context),
        arrays.rows[(side > 0) & (side < TINY)],
    )


def blurred(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Images whose sharpest parts are soft, among those that were measured."""
    yield RawFinding(
        "warning",
        "blurred image",
        "The image is blurred even where it is sharpest.",
        context.hint("Leave it out: prep edit NAME --drop", "Move it out of the folder."),
        arrays.rows[arrays.sharpness < BLURRED],
    )


def one_background(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Subjects that have the same background in nearly all images."""
    for (number, scene), count in sorted(arrays.backgrounds.items()):
        images = int((arrays.with_role("train") & (arrays.subject == number)).sum())
        if images >= ENOUGH and arrays.subjects[number] and count >= ALWAYS * images:
            who = escape_control(arrays.subjects[number])
            yield RawFinding(
                "warning",
                "one background",
                f"{count} of {images} images of {who} have a {escape_control(scene)}: "
                "the model learns it with the trigger.",
                "Add images with other backgrounds, and keep backgrounds in captions so that prompts can change them.",
            )


def _enlarged_hint(context: RuleContext) -> str:
    """A smaller size only if there is one."""
    if context.resolution > USUAL:
        smaller = context.hint(f"prep crop --resolution {USUAL}", f"prep train --data FOLDER --resolution {USUAL}")
        return f"Use a larger image, or crop all to a smaller size: {smaller}"
    return context.hint(
        "Use a larger image, or leave it out: prep edit NAME --drop",
        "Use a larger image, or move it out of the folder.",
    )


def _tiny_hint(context: RuleContext) -> str:
    """A larger size only where the images were cropped to a smaller one."""
    if 0 < context.resolution < USUAL:
        larger = context.hint(f"prep crop --resolution {USUAL}", f"prep train --data FOLDER --resolution {USUAL}")
        return f"Use a larger image, or crop to a larger size: {larger}"
    return context.hint(
        "Use a larger image, or leave it out: prep edit NAME --drop",
        "Use a larger image, or move it out of the folder.",
    )


RULES: tuple[Callable[[DatasetArrays, RuleContext], Iterator[RawFinding]], ...] = (
    heavy_crop,
    enlarged,
    tiny,
    blurred,
    one_background,
)
