"""The worked table of the merge method: 25 images of one character, tags and their shares among 7,182,544 posts."""

from __future__ import annotations

from pathlib import Path

from pipeline.history import HistoryStep, Model
from pipeline.manifest import Manifest, write_manifest
from pipeline.record import ImageInfo
from tests.make import record, tag

IMAGES = 25
POSTS = 7_182_544  # wd-v1-4 v3's list: the sum of its four ratings' counts
# Tag, coverage, share of all posts, then p, PMI and z as the table prints them, and what prep does.
TABLE = (
    ("1girl", 1.00, 0.7120, ".918", "0.37", "2.45", "review"),
    ("blonde_hair", 1.00, 0.1826, ".766", "2.07", "6.73", "absorb"),
    ("long_hair", 1.00, 0.5070, ".859", "0.76", "3.66", "absorb"),
    ("blue_eyes", 0.96, 0.2075, ".745", "1.84", "6.22", "absorb"),
    ("animal_ears", 0.92, 0.1323, ".695", "2.39", "7.37", "absorb"),
    ("fox_ears", 0.88, 0.0168, ".633", "5.24", "13.2", "absorb"),
    ("solo", 0.88, 0.5920, ".798", "0.43", "2.38", "keep"),
    ("hair_ribbon", 0.84, 0.0733, ".621", "3.08", "8.70", "absorb"),
    ("hair_between_eyes", 0.80, 0.1284, ".608", "2.24", "6.80", "absorb"),
    ("looking_at_viewer", 0.76, 0.3755, ".650", "0.79", "3.18", "keep"),
    ("simple_background", 0.68, 0.1976, ".542", "1.46", "4.63", "keep"),
    ("red_ribbon", 0.68, 0.0206, ".492", "4.58", "11.3", "absorb"),
    ("two_side_up", 0.64, 0.0198, ".463", "4.55", "11.1", "absorb"),
    ("smile", 0.60, 0.3292, ".523", "0.67", "2.37", "keep"),
    ("mole_under_eye", 0.56, 0.0168, ".405", "4.59", "10.7", "review"),
    ("school_uniform", 0.44, 0.0958, None, "1.83", "4.46", "keep"),
    ("white_shirt", 0.36, 0.0876, None, "1.69", "3.75", "keep"),
)
SHARES = {name: share for name, _, share, *_ in TABLE}


def records(copies: int = 0):
    """The 25 images, each said of with its tags; with `copies` augmented copies of each."""
    made = []
    for number in range(IMAGES):
        tags = tuple(tag(name, 0.9) for name, coverage, *_ in TABLE if number < round(coverage * IMAGES))
        root = record(number, annotations=tags)
        made.append(root)
        made += [record(number, id=f"{root.id}-{k}", origin=root.id, annotations=tags) for k in range(1, copies + 1)]
    return sorted(made, key=lambda r: r.id)


def list_of_tags(path: Path) -> Path:
    """A selected_tags.csv whose counts give the table's shares."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ratings = [("general", POSTS - 3000), ("sensitive", 1000), ("questionable", 1000), ("explicit", 1000)]
    rows = [f"{n},{name},9,{count}" for n, (name, count) in enumerate(ratings)]
    rows += [f"{n},{name},0,{round(share * POSTS)}" for n, (name, share) in enumerate(SHARES.items(), 9)]
    path.write_text("\n".join(["tag_id,name,category,count", *rows]) + "\n")
    return path


def manifest(path: Path, rows, models: tuple[Model, ...] = ()) -> Manifest:
    history = (HistoryStep("scan", 1, {}, "x"), HistoryStep("wd14", 1, {}, "y", models))
    return write_manifest(path, [sorted(rows, key=lambda r: r.id)], history)


def looks(number: int, phash: int) -> ImageInfo:
    """An image of its own with the perceptual hash given."""
    return ImageInfo(f"images/{number}.png", 8, 8, f"{number:064x}", f"{phash ^ 0xAAAA_AAAA_AAAA_AAAA:016x}", "0" * 64)
