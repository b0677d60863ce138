"""Records and workspaces for tests, made from a number."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from pipeline.engines import local
from pipeline.execution import RunSettings
from pipeline.record import Annotation, CropBox, Drop, ImageInfo, Record
from pipeline.workspace import Workspace

LOCAL = RunSettings(local.run, 2, quiet=True)  # two threads, as local runs have


def record(number: int, **changes: object) -> Record:
    """A cropped training image; its id is as random as a hash and the same each time."""
    sha = hashlib.sha256(str(number).encode()).hexdigest()
    crop = CropBox(1000, 800, 640, 512, 64, 0, 512, 512, "#ffffff", "center", 1.0, 0.2)
    image = ImageInfo(f"images/{sha[:2]}/{sha}.png", 512, 512, sha, sha[:16], sha[::-1])
    made = Record(sha[:16], f"raw/{number}.jpg", sha, "smith", "man", "train", crop=crop, image=image)
    return replace(made, **changes)


def records(count: int) -> list[Record]:
    """Records sorted by id; every seventh is dropped, every fifth has tags."""
    made = []
    for number in range(count):
        one = record(number)
        if number % 7 == 3:
            one = replace(one, crop=None, image=None, drop=Drop("crop", "truncated", f"byte {number}"))
        elif number % 5 == 0:
            one = replace(one, annotations=(tag("beard", 0.9), tag("hat", 0.5)))
        made.append(one)
    return sorted(made, key=lambda r: r.id)


def tag(text: str, score: float | None = 0.9, by: str = "wd14", category: str = "general") -> Annotation:
    return Annotation(text, "tag", category, score, by)


def workspace(folder: Path, recipe: str = "") -> Workspace:
    """A workspace with one subject, smith, whose images lie in raw/."""
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    text = '[[subject]]\ntoken = "smith"\nclass = "man"\nfolder = "raw"\n' + recipe
    (folder / "prep.toml").write_text(text, encoding="utf-8")
    return Workspace(folder.resolve())
