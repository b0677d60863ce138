"""A small dataset with everything a report shows: copies, near-duplicates, dropped images, hostile names, roles."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from pipeline.history import HistoryStep, Model
from pipeline.manifest import Manifest, write_manifest
from pipeline.record import Annotation, CropBox, Drop, Record, Transform
from pipeline.workspace import Workspace
from tests.make import record, tag, workspace

EVIL = "<script>alert('x')</script>"
IMG = '"><img src=x onerror=alert(1)>'
MERGE = HistoryStep("merge", 1, {"threshold": 0.5, "absorb": ["smith=beard"], "plan": "", "edits": ""}, "2" * 64)
HISTORY = (
    HistoryStep("scan", 1, {}, "0" * 64),
    HistoryStep("crop", 1, {"resolution": 256, "focus": "center"}, "1" * 64, libraries={"pillow": "12.0"}),
    HistoryStep("wd14", 1, {"model": EVIL}, "3" * 64, (Model(f"hub/{EVIL}", "f" * 64, "main"),)),
    MERGE,
)
SIZES = ((256, 256), (192, 320), (320, 192))
TAGS = ("beard", "hat", "long_hair", "smile_(object)", "outdoors", "sea")


def make_set(
    folder: Path, count: int = 40, seed: int = 0, history: tuple[HistoryStep, ...] = HISTORY
) -> tuple[Workspace, Manifest]:
    """A workspace with merge's manifest of `count` sources; its image files do not exist."""
    space = workspace(folder)
    made = sorted(_records(random.Random(seed), count), key=lambda r: r.id)
    return space, write_manifest(space.manifest("merge"), [made], history)


def _records(chance: random.Random, count: int) -> list[Record]:
    made: list[Record] = []
    for number in range(count):
        one = _one(chance, number)
        if number % 9 == 4:
            detail = f"{EVIL} {number}"
            made.append(
                replace(one, caption="", crop=None, image=None, drop=Drop("crop", chance.choice(("tiny", IMG)), detail))
            )
            continue
        made.append(one)
        if number % 4 == 1:
            looks = f"{int(one.image.phash, 16) ^ (0xFF00FF if number % 8 == 1 else 1):016x}"
            copy = replace(one.image, phash=looks, pixel_sha256=one.image.pixel_sha256[::-1])
            made.append(replace(one, id=f"{one.id}-1", origin=one.id, transform=Transform("flip", True), image=copy))
    return made


def _one(chance: random.Random, number: int) -> Record:
    subject, class_name, role = chance.choice(
        (("smith", "man", "train"), ("anna", "woman", "train"), ("", "man", "reg"), ("smith", "man", "val"))
    )
    width, height = chance.choice(SIZES)
    one = record(
        number,
        subject=subject,
        class_name=class_name,
        role=role,
        source=f"raw/{number} {chance.choice((EVIL, IMG, 'ü'))}.jpg",
    )
    near = int(record(number - number % 5).image.phash, 16) ^ (1 << chance.randrange(64)) if number % 5 else None
    image = replace(one.image, width=width, height=height)
    image = image if near is None or number % 2 else replace(image, phash=f"{near:016x}")
    crop = CropBox(
        source_width=chance.choice((300, 900, 2000)),
        source_height=chance.choice((300, 1000)),
        scaled_width=400,
        scaled_height=400,
        left=0,
        top=0,
        width=width,
        height=height,
        background="#ffffff",
        focus="center",
        upscale=chance.choice((1.0, 1.0, 1.1, 1.25, 1.4)),
        cropped_fraction=chance.choice((0.0, 0.05, 0.2, 0.4, 0.41, 0.6)),
    )
    tags = tuple(
        tag(text, chance.choice((0.2, 0.5, 0.9, None))) for text in chance.sample(TAGS, chance.randrange(len(TAGS)))
    )
    sharp = Annotation("sharpness", "measure", "quality", chance.choice((0.3, 0.5, 0.7, 0.95)), "basic")
    words = [subject or class_name, *chance.sample(("hat", "long hair", "sea", EVIL), 2)]
    words += words[1:2] if number % 6 == 0 else []  # a repeated part
    words += ["word " * 50 + "end"] if number % 13 == 0 else []
    return replace(one, crop=crop, image=image, annotations=(sharp, *tags), caption=", ".join(words))
