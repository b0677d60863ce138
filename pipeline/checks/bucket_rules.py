"""Rules about image sizes: sides that no latent can have, and too few images of a size to fill a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.checks.array_ops import numbered
from pipeline.checks.dataset_arrays import DatasetArrays
from pipeline.checks.finding import RawFinding
from pipeline.checks.rule_context import RuleContext
from training.data.dataset import LARGEST, OVERSIZE

_BUCKETED = (
    "Crop the images as they are read, here for Stable Diffusion 1.x: prep train --data FOLDER --resolution 512; or "
    "make a workspace of the folder: prep import FOLDER DIR"
)
FACTOR = 8  # pixels of an image per latent pixel, in every Stable Diffusion VAE


def odd_sides(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Sizes whose sides latents cannot have; kohya's trainer scales images itself, so its folders may have them."""
    message = f"The image's sides are not multiples of {FACTOR} pixels"
    yield RawFinding(
        "warning" if context.external else "error",
        "size not trainable",
        f"{message}: prep train does not take it as it is; kohya's trainer crops it."
        if context.external
        else f"{message}.",
        context.hint("prep crop --bucket-step 64", _BUCKETED),
        arrays.rows[(arrays.width % FACTOR != 0) | (arrays.height % FACTOR != 0)],
    )


def oversized(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Images of far more pixels than any base model was trained with."""
    import numpy as np

    area = arrays.width.astype(np.int64) * arrays.height
    yield RawFinding(
        "warning",
        "larger than the base",
        f"The image has more than {OVERSIZE:g} times the pixels that base models were made for: 512 x 512 for Stable "
        "Diffusion 1.x, 768 x 768 for 2.x, 1024 x 1024 for XL and 3.5. Training takes much memory and time, and the "
        "model learns to repeat itself.",
        context.hint("Crop them to the size of your base: prep crop --resolution 1024", _BUCKETED),
        arrays.rows[area > OVERSIZE * LARGEST**2],
    )


def small_buckets(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Sizes with fewer images per epoch than a batch holds."""
    import numpy as np

    batch_size, trained = context.targets.batch_size, ~arrays.with_role("val")
    if batch_size < 2 or not trained.any():
        return
    sizes = arrays.width[trained].astype(np.int64) << 32 | arrays.height[trained]
    bucket = numbered(sizes)
    per_epoch = np.bincount(bucket, arrays.repeats[trained]).astype(int)
    for number, (size, count) in enumerate(zip(np.unique(sizes).tolist(), per_epoch.tolist(), strict=True)):
        width, height = size >> 32, size & 0xFFFFFFFF
        if count < batch_size:
            yield RawFinding(
                "warning",
                "too few images for a batch",
                f"{width} x {height} has {count} image{'s' if count > 1 else ''} per epoch, fewer than the batch size "
                f"of {batch_size}: its batches are small, and each has the weight of a full one.",
                context.hint(
                    "Crop to fewer sizes (a larger --bucket-step, or one --size), raise repeats, or lower "
                    "--batch-size.",
                    "Crop to fewer sizes with --resolution, raise the repeats in the folder's name, or lower "
                    "--batch-size.",
                ),
                arrays.rows[trained][bucket == number],
            )


RULES: tuple[Callable[[DatasetArrays, RuleContext], Iterator[RawFinding]], ...] = (odd_sides, oversized, small_buckets)
