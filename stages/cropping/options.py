"""Checks of crop's options, and its options that are given as text: sizes and boxes."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from pipeline.errors import PrepError
from pipeline.imaging.bucket import Size, buckets
from pipeline.record import Record

_NUMBER = re.compile(r"\s*\d+(\.\d+)?\s*")


def parse_size(text: str) -> Size:
    """Width and height of '512x768', or of '512' for a square; PrepError for anything else."""
    sides = [int(side) for side in text.lower().split("x")] if re.fullmatch(r"\d+(x\d+)?", text.lower()) else []
    if not sides:
        raise PrepError(f"crop: size is {text!r}.", "Write it as WIDTHxHEIGHT: --size 512x768")
    if any(side % 8 or not 64 <= side <= 16384 for side in sides):
        raise PrepError(
            f"crop: size is {text!r}.", "Both sides must be multiples of 8, for the latents, and from 64 to 16384."
        )
    return sides[0], sides[-1]


def parse_box(text: str) -> tuple[str, tuple[float, float, float, float]]:
    """The name, and left, top, right and bottom in pixels, of 'NAME=left,top,width,height'."""
    name, _, numbers = text.rpartition("=")
    parts = numbers.split(",")
    if not name or len(parts) != 4 or not all(map(_NUMBER.fullmatch, parts)):
        raise PrepError(
            f"crop: box {text!r} cannot be read.", "Write NAME=left,top,width,height: --boxes 1.jpg=10,20,400,300"
        )
    left, top, width, height = (float(part) for part in parts)
    if width < 1 or height < 1:
        raise PrepError(f"crop: box {text!r} is empty.", "Its width and height must be at least 1 pixel.")
    return name, (left, top, left + width, top + height)


def box_names(record: Record) -> tuple[str, str, str]:
    """What a box can call an image: its id, its path, or its file name."""
    return record.id, record.source, PurePosixPath(record.source).name


def check_color(text: str) -> None:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise PrepError(f"crop: background is {text!r}.", "Write it as #rrggbb: --background '#ffffff' is white.")


def check_step(step: int) -> None:
    if step % 8:
        raise PrepError(
            f"crop: bucket-step is {step}.", "It must be a multiple of 8, as latents need: --bucket-step 64"
        )


def check_sides(sides: tuple[int, int], resolution: int, step: int) -> None:
    """PrepError unless there are buckets with sides in these bounds."""
    shortest, longest = sides
    for name, side in (("min-side", shortest), ("max-side", longest)):
        if side % step:
            below = side // step * step
            raise PrepError(
                f"crop: {name} is {side}, which is no multiple of bucket-step, {step}.",
                f"Give --{name} {below or step} or --{name} {below + step}.",
            )
    if longest < resolution // step * step:
        raise PrepError(
            f"crop: max-side is {longest}, less than resolution, {resolution}: no bucket could have that area.",
            "Raise --max-side or lower --resolution.",
        )
    if not buckets(resolution, step, shortest, longest):
        raise PrepError(
            f"crop: no size has sides from {shortest} to {longest} pixels and an area of {resolution} squared.",
            "Lower --min-side, raise --max-side or raise --resolution.",
        )
