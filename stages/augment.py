"""prep augment: more images from few, mirrored, turned, zoomed and shifted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.imaging import image_file
from pipeline.record import Record, Transform
from pipeline.stage import Stage, Work, option
from pipeline.workspace import Workspace

MAX_ANGLE = 45.0  # degrees; beyond it a turned image keeps less than half its sides


@dataclass(frozen=True, kw_only=True)
class Augment(Stage):
    """Add mirrored, turned, zoomed and shifted copies of every image."""

    name: ClassVar[str] = "augment"
    writes_images: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("pillow", "opencv-python-headless", "isal", "numpy")

    flip: bool = option(False, "Add a copy mirrored left to right.")
    rotate: tuple[float, ...] = option(
        [], "Add a copy turned by this many degrees counter-clockwise.", low=-MAX_ANGLE, high=MAX_ANGLE
    )
    zoom: tuple[float, ...] = option(
        [],
        "Add a copy of the middle, this share of each side, enlarged again: 0.8 is a zoom of 1.25.",
        low=0.25,
        high=1,
    )
    jitter: int = option(0, "Add this many copies cut at random places.", low=0, high=100)
    jitter_amount: float = option(
        0.1, "Most that a random cut takes off each side, as a share of it.", low=0.01, high=0.5
    )
    seed: int = option(0, "Where the random cuts start from.", low=0)
    only: Literal["train", "reg", "all"] = option("train", "Which images to copy: the subject's, the class's or all.")

    def check(self) -> None:
        for angle in self.rotate:
            if angle == 0 or abs(angle) > MAX_ANGLE:
                raise PrepError(
                    f"augment: rotate is {angle:g}.", f"It must be from -{MAX_ANGLE:g} to {MAX_ANGLE:g}, not 0."
                )
        for share in self.zoom:
            if not 0.25 <= share < 1:
                mend = f"For a zoom of {share:g} give {1 / share:.3g}." if 1 < share <= 4 else ""
                raise PrepError(f"augment: zoom is {share:g}; it must be from 0.25 to less than 1.", mend)
        for name, values in (("rotate", self.rotate), ("zoom", self.zoom)):
            if len(set(values)) < len(values):
                raise PrepError(
                    f"augment: {name} names one value twice.", "The copies would be the same; leave one out."
                )

    def start(self, workspace: Workspace) -> Work:
        return partial(augment_all, self, workspace)


def augment_all(options: Augment, workspace: Workspace, records: list[Record]) -> list[Record]:
    """The records and their copies, written; sorted by id."""
    done = [after for before in records for after in (before, *augmented_copies(options, workspace, before))]
    return sorted(done, key=lambda after: after.id)


def augmented_copies(options: Augment, workspace: Workspace, before: Record) -> Iterator[Record]:
    """The copies of one image; none when it is not of the kind to be copied."""
    if options.only not in ("all", before.role) or before.image is None:
        return
    changes = list(transforms(options, before.id))
    rgb = image_file.load_rgb(workspace.path(before.image.path)) if changes else None
    for k, change in enumerate(changes, 1):
        assert rgb is not None
        made = image_file.save(workspace, image_file.transform(rgb, change))
        yield replace(before, id=f"{before.id}-{k}", origin=before.id, transform=change, image=made)


def transforms(options: Augment, record_id: str) -> Iterator[Transform]:
    """The transforms of an image's copies, in the order that numbers them."""
    if options.flip:
        yield Transform("flip", flip=True)
    for angle in options.rotate:
        yield Transform("rotate", angle=angle)
    for share in options.zoom:
        yield Transform("zoom", zoom=share)
    for k in range(options.jitter):
        size, x, y = (uniform(options.seed, record_id, k, what) for what in ("size", "x", "y"))
        yield Transform(
            "jitter", zoom=1 - options.jitter_amount * (0.5 + size / 2), shift_x=2 * x - 1, shift_y=2 * y - 1
        )


def uniform(seed: int, record_id: str, k: int, what: str) -> float:
    """A number from 0 to 1, the same for the same arguments on any machine: 53 bits of a sha256."""
    digest = hashlib.sha256(f"{seed}\n{record_id}\n{k}\n{what}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)
