"""prep augment: add flipped, rotated, zoomed and shifted copies of images."""

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

MAX_ANGLE = 45.0  # degrees; beyond it the largest upright rectangle keeps less than half of each side
MIN_ZOOM = 0.25


@dataclass(frozen=True, kw_only=True)
class Augment(Stage):
    """Add flipped, rotated, zoomed and shifted copies of every image."""

    name: ClassVar[str] = "augment"
    writes_images: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("pillow", "opencv-python-headless", "isal", "numpy")

    flip: bool = option(False, "Add a copy flipped left to right. Not for subjects that are not symmetrical.")
    rotate: tuple[float, ...] = option(
        [],
        "Add a copy rotated counter-clockwise by this many degrees, usually 2 to 10; repeat it for more copies.",
        low=-MAX_ANGLE,
        high=MAX_ANGLE,
    )
    zoom: tuple[float, ...] = option(
        [],
        "Add a copy of the center, this share of each side, scaled to full size: 0.8 enlarges 1.25 times; repeat it "
        "for more copies.",
        low=MIN_ZOOM,
        high=1,
    )
    jitter: int = option(0, "Add this many copies cropped at random positions, usually 1 to 4.", low=0, high=100)
    jitter_amount: float = option(0.1, "Largest share of each side that a random crop cuts away.", low=0.01, high=0.5)
    seed: int = option(0, "Seed of the random crops.", low=0)
    only: Literal["train", "reg", "all"] = option(
        "train", "Images to copy: training images, regularization images (reg), or all."
    )

    def check(self) -> None:
        for angle in self.rotate:
            if angle == 0:
                raise PrepError("augment: rotate is 0, which changes nothing.", "For example: --rotate 5 --rotate -5")
            if abs(angle) > MAX_ANGLE:
                hint = f"It must be from -{MAX_ANGLE:g} to {MAX_ANGLE:g}."
                raise PrepError(f"augment: rotate is {angle:g} degrees.", hint)
        for share in self.zoom:
            if not MIN_ZOOM <= share < 1:
                hint = f"To enlarge {share:g} times: --zoom {1 / share:.3g}" if 1 < share <= 1 / MIN_ZOOM else ""
                raise PrepError(f"augment: zoom is {share:g}; it must be from {MIN_ZOOM} to less than 1.", hint)
        for name, values in (("rotate", self.rotate), ("zoom", self.zoom)):
            if len(set(values)) < len(values):
                raise PrepError(
                    f"augment: {name} has one value twice.", "The copies would be identical; leave one of them out."
                )

    @property
    def idle(self) -> bool:
        """Whether no option asks for copies."""
        return not (self.flip or self.rotate or self.zoom or self.jitter)

    def start(self, workspace: Workspace) -> Work:
        return partial(augment_all, self, workspace)


def augment_all(options: Augment, workspace: Workspace, records: list[Record]) -> list[Record]:
    """The records and those of their copies, whose images are written; sorted by id."""
    augmented = [after for before in records for after in (before, *augmented_copies(options, workspace, before))]
    return sorted(augmented, key=lambda record: record.id)


def augmented_copies(options: Augment, workspace: Workspace, before: Record) -> Iterator[Record]:
    """The copies of one image; none when `only` excludes its role."""
    if options.only not in ("all", before.role) or before.image is None:
        return
    changes = list(transforms(options, before.id))
    rgb = image_file.load_rgb(workspace.path(before.image.path)) if changes else None
    for number, change in enumerate(changes, 1):
        assert rgb is not None
        image = image_file.save(workspace, image_file.transform(rgb, change))
        yield replace(before, id=f"{before.id}-{number}", origin=before.id, transform=change, image=image)


def transforms(options: Augment, record_id: str) -> Iterator[Transform]:
    """The transforms of an image's copies, in the order of the copies' numbers."""
    if options.flip:
        yield Transform("flip", flip=True)
    for angle in options.rotate:
        yield Transform("rotate", angle=angle)
    for share in options.zoom:
        yield Transform("zoom", zoom=share)
    for number in range(options.jitter):
        size, x, y = (uniform(options.seed, record_id, number, axis) for axis in ("size", "x", "y"))
        yield Transform(
            "jitter", zoom=1 - options.jitter_amount * (0.5 + size / 2), shift_x=2 * x - 1, shift_y=2 * y - 1
        )


def uniform(seed: int, record_id: str, number: int, axis: str) -> float:
    """A number from 0 to 1, the same for the same arguments on every machine: 53 bits of a sha256."""
    digest = hashlib.sha256(f"{seed}\n{record_id}\n{number}\n{axis}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)
