"""A tagged workspace for tests of the review: small images, tags with scores, a copy and a dropped file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pipeline.history import HistoryStep
from pipeline.manifest import write_manifest
from pipeline.record import Annotation, Drop, ImageInfo, Record, Transform
from pipeline.workspace import Workspace
from tests.make import record, tag, workspace

RECIPE = '[merge]\nabsorb = ["1boy", "beard"]\n'
TAGS = (("1boy", 0.99), ("beard", 0.95), ("apron", 0.9), ("hammer", 0.42), ("long_hair", 0.6), ("hat", 0.8))


def image(place: Workspace, number: int) -> ImageInfo:
    """A PNG of 60 x 40 pixels, red at the left, its blue from the number."""
    import numpy as np

    from pipeline.imaging.image_file import save

    rgb = np.zeros((40, 60, 3), np.uint8)
    rgb[:, :30, 0], rgb[..., 2] = 220, number % 8 * 30
    return save(place, rgb)


def tagged(place: Workspace, count: int = 6) -> list[Record]:
    """Records 0.jpg, 1.jpg, ...: number n has the first 2 + n % 5 tags, 1.jpg a flipped copy; 5.jpg is broken."""
    made = []
    for number in range(count):
        annotations = tuple(tag(text, score) for text, score in TAGS[: 2 + number % 5])
        annotations += (Annotation("a man at work", "caption", "", None, "blip"),) if number % 6 == 2 else ()
        one = record(number, image=image(place, number), annotations=annotations)
        if number == 5:
            one = replace(one, crop=None, image=None, annotations=(), drop=Drop("crop", "truncated"))
        made.append(one)
        if number == 1:
            made.append(replace(one, id=f"{one.id}-1", origin=one.id, transform=Transform("flip", True)))
    return sorted(made, key=lambda r: r.id)


def review_set(folder: Path, count: int = 6) -> Workspace:
    """The workspace with its tag manifest."""
    place = workspace(folder, RECIPE)
    write_manifest(
        place.manifest("tag"),
        [tagged(place, count)],
        (HistoryStep("scan", 1, {}, "x"), HistoryStep("wd14", 1, {}, "y")),
    )
    return place
