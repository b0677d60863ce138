"""What is wrong with sizes: too few pictures of one for the batch, sides that no model takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.checks.array_ops import numbered
from pipeline.checks.dataset_arrays import Cards
from pipeline.checks.finding import Hit
from pipeline.checks.rule_context import Facts

FACTOR = 8  # pixels of a picture for one of its latent


def odd_sides(cards: Cards, facts: Facts) -> Iterator[Hit]:
    """Sizes whose sides latents cannot have; kohya's reader scales pictures itself, so others' may."""
    if not facts.foreign:
        yield Hit(
            "error",
            "size not trainable",
            f"The picture's sides are no multiples of {FACTOR} pixels.",
            "prep crop --step 64",
            cards.rows[(cards.width % FACTOR != 0) | (cards.height % FACTOR != 0)],
        )


def small_buckets(cards: Cards, facts: Facts) -> Iterator[Hit]:
    """Sizes of which an epoch shows fewer pictures than a batch holds."""
    import numpy as np

    batch, chosen = facts.aims.batch, ~cards.of("val")
    if batch < 2 or facts.foreign or not chosen.any():
        return
    both = cards.width[chosen].astype(np.int64) << 32 | cards.height[chosen]
    place = numbered(both)
    shown = np.bincount(place, cards.repeats[chosen]).astype(int)
    for number, (size, count) in enumerate(zip(np.unique(both).tolist(), shown.tolist(), strict=True)):
        width, height = size >> 32, size & 0xFFFFFFFF
        if count < batch:
            yield Hit(
                "warning",
                "too few pictures for a batch",
                f"An epoch shows {count} picture{'s' if count > 1 else ''} of {width} x {height}, "
                f"and a batch holds {batch}: their batches stay small, and each of them counts as much as a full one.",
                "Crop to fewer sizes (a larger --step, or one --size), raise repeats, or train with a smaller --batch",
                cards.rows[chosen][place == number],
            )


RULES: tuple[Callable[[Cards, Facts], Iterator[Hit]], ...] = (odd_sides, small_buckets)
