"""All that went no further, by stage and reason, with the first images of each by name."""

from __future__ import annotations

from pipeline.manifest import Manifest
from pipeline.report.facts import DroppedImages, ImageRef

_LISTED = 50  # images told by name for each reason


def dropped(manifest: Manifest) -> tuple[DroppedImages, ...]:
    """The reasons, in the order of the counts; every dropped record is counted under one."""
    import pyarrow.compute as pc

    found: dict[tuple[str, str], list[tuple[ImageRef, str]]] = {}
    counts: dict[tuple[str, str], int] = {}
    start = 0
    for table in manifest.tables(["id", "source", "drop"]):
        at = pc.indices_nonzero(pc.is_valid(table["drop"]))
        for row, one in zip(at.to_pylist(), table.take(at).to_pylist(), strict=True):
            why = (one["drop"]["stage"], one["drop"]["reason"])
            counts[why] = counts.get(why, 0) + 1
            if counts[why] <= _LISTED:
                named = ImageRef(start + row, one["id"], one["source"])
                found.setdefault(why, []).append((named, one["drop"]["detail"]))
        start += table.num_rows
    ranked = sorted(counts, key=lambda why: (-counts[why], why))
    return tuple(DroppedImages(*why, counts[why], tuple(found[why])) for why in ranked)
