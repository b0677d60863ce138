"""Counts dropped images by stage and reason, and lists the first of each."""

from __future__ import annotations

from pipeline.manifest import Manifest
from pipeline.report.data import DroppedImages, ImageRef

_LISTED = 50  # images listed for each reason


def dropped_images(manifest: Manifest) -> tuple[DroppedImages, ...]:
    """One entry per stage and reason, the most frequent first; every dropped record is counted once."""
    import pyarrow.compute as pc

    listed: dict[tuple[str, str], list[tuple[ImageRef, str]]] = {}
    counts: dict[tuple[str, str], int] = {}
    start = 0
    for table in manifest.tables(["id", "source", "drop"]):
        dropped = pc.indices_nonzero(pc.is_valid(table["drop"]))
        for row, record in zip(dropped.to_pylist(), table.take(dropped).to_pylist(), strict=True):
            drop = record["drop"]
            key = (drop["stage"], drop["reason"])
            counts[key] = counts.get(key, 0) + 1
            if counts[key] <= _LISTED:
                image = ImageRef(start + row, record["id"], record["source"])
                listed.setdefault(key, []).append((image, drop["detail"]))
        start += table.num_rows
    ranked = sorted(counts, key=lambda key: (-counts[key], key))
    return tuple(DroppedImages(*key, counts[key], tuple(listed[key])) for key in ranked)
