"""What is wrong with sizes: too few images of one for the batch, sides that no model takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.checks.array_ops import numbered
from pipeline.checks.dataset_arrays import DatasetArrays
from pipeline.checks.finding import RawFinding
from pipeline.checks.rule_context import RuleContext

FACTOR = 8  # pixels of an image for one of its latent


def odd_sides(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Sizes whose sides latents cannot have; kohya's reader scales images itself, so others' may."""
    if not context.external:
        yield RawFinding(
            "error",
            "size not trainable",
            f"The image's sides are no multiples of {FACTOR} pixels.",
            "prep crop --bucket-step 64",
            arrays.rows[(arrays.width % FACTOR != 0) | (arrays.height % FACTOR != 0)],
        )


def small_buckets(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Sizes of which an epoch shows fewer images than a batch holds."""
    import numpy as np

    batch, chosen = context.targets.batch_size, ~arrays.with_role("val")
    if batch < 2 or context.external or not chosen.any():
        return
    both = arrays.width[chosen].astype(np.int64) << 32 | arrays.height[chosen]
    place = numbered(both)
    shown = np.bincount(place, arrays.repeats[chosen]).astype(int)
    for number, (size, count) in enumerate(zip(np.unique(both).tolist(), shown.tolist(), strict=True)):
        width, height = size >> 32, size & 0xFFFFFFFF
        if count < batch:
            yield RawFinding(
                "warning",
                "too few images for a batch",
                f"An epoch shows {count} image{'s' if count > 1 else ''} of {width} x {height}, "
                f"and a batch holds {batch}: their batches stay small, and each of them counts as much as a full one.",
                "Crop to fewer sizes (a larger --bucket-step, or one --size), raise repeats, or train with a smaller --batch-size",
                arrays.rows[chosen][place == number],
            )


RULES: tuple[Callable[[DatasetArrays, RuleContext], Iterator[RawFinding]], ...] = (odd_sides, small_buckets)
