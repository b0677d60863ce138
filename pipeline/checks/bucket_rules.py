"""Rules about image sizes: sides that no latent can have, and too few images of a size to fill a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.checks.array_ops import numbered
from pipeline.checks.dataset_arrays import DatasetArrays
from pipeline.checks.finding import RawFinding
from pipeline.checks.rule_context import RuleContext

FACTOR = 8  # pixels of an image per latent pixel, in every Stable Diffusion VAE


def odd_sides(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Sizes whose sides latents cannot have; kohya's trainer scales images itself, so its folders may have them."""
    if not context.external:
        yield RawFinding(
            "error",
            "size not trainable",
            f"The image's sides are not multiples of {FACTOR} pixels.",
            "prep crop --bucket-step 64",
            arrays.rows[(arrays.width % FACTOR != 0) | (arrays.height % FACTOR != 0)],
        )


def small_buckets(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Sizes with fewer images per epoch than a batch holds."""
    import numpy as np

    batch_size, trained = context.targets.batch_size, ~arrays.with_role("val")
    if batch_size < 2 or context.external or not trained.any():
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
                "Crop to fewer sizes (a larger --bucket-step, or one --size), raise repeats, or lower --batch-size.",
                arrays.rows[trained][bucket == number],
            )


RULES: tuple[Callable[[DatasetArrays, RuleContext], Iterator[RawFinding]], ...] = (odd_sides, small_buckets)
