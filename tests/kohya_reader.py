"""What kohya's reader does with a data set, written from the description of its behaviour and from nothing of prep's.

Its weaknesses are here on purpose: a set is exported well when even this reader takes it as it was meant.
"""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

_LOWER = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
IMAGES = (*_LOWER, *(ending.upper() for ending in _LOWER))  # 'a.Jpg' is invisible
# The keys that the checked form of its configuration knows; any other is refused.
_GENERAL = {"enable_bucket", "bucket_no_upscale", "bucket_reso_steps", "min_bucket_reso", "max_bucket_reso"}
_GENERAL |= {"caption_extension"}
_DATASET = _GENERAL | {"resolution", "batch_size", "subsets"}
_BY_FILES = {"image_dir", "num_repeats", "is_reg", "class_tokens", "caption_extension"}
_SUBSET = {"image_dir", "metadata_file", "num_repeats", "shuffle_caption", "keep_tokens", "flip_aug", "caption_prefix"}


@dataclass
class Subset:
    folder: str
    repeats: int
    reg: bool
    class_tokens: str
    table: dict[str, dict[str, str]] | None = None


@dataclass
class Info:
    """One image as the trainer registers it."""

    path: str
    caption: str
    repeats: int
    reg: bool
    said: list[str] = field(default_factory=list)


def folders(parent: Path, reg: bool) -> list[Subset]:
    """The direct subfolders of --train_data_dir or --reg_data_dir whose names begin with their repeats."""
    found = []
    for child in parent.iterdir():
        if not child.is_dir():
            continue
        first, *rest = child.name.split("_")
        try:
            repeats = int(first)
        except ValueError:
            continue
        if repeats >= 1:
            found.append(Subset(str(child), repeats, reg, "_".join(rest)))
    return found


def configured(config: Path) -> list[Subset]:
    """The subsets of --dataset_config; folders' names say nothing here."""
    plain = tomllib.loads(config.read_text(encoding="utf-8"))
    assert set(plain) <= {"general", "datasets"} and set(plain.get("general", {})) <= _GENERAL
    found = []
    for dataset in plain["datasets"]:
        assert set(dataset) <= _DATASET
        check_sizes(plain.get("general", {}) | dataset)
        for subset in dataset["subsets"]:
            if not any("metadata_file" in one for one in dataset["subsets"]):
                assert set(subset) <= _BY_FILES and "image_dir" in subset
                folder, repeats = str(config.parent / subset["image_dir"]), int(subset.get("num_repeats", 1))
                found.append(Subset(folder, repeats, subset.get("is_reg", False), subset.get("class_tokens", "")))
                continue
            assert set(subset) <= _SUBSET and {"image_dir", "metadata_file"} <= set(subset)
            text = (config.parent / subset["metadata_file"]).read_text(encoding="utf-8")
            folder = str(config.parent / subset["image_dir"])
            found.append(Subset(folder, int(subset.get("num_repeats", 1)), False, "", json.loads(text)))
    return found


def check_sizes(keys: dict) -> None:
    """The resolution must lie between the limits of the buckets' sides."""
    assert keys.get("min_bucket_reso", 256) <= keys.get("resolution", 512) <= keys.get("max_bucket_reso", 1024)


def images(folder: str) -> list[str]:
    return sorted(str(path) for path in Path(folder).iterdir() if path.suffix in IMAGES)


def caption_of(path: str, ending: str, wildcard: bool) -> str | None:
    """The caption file of the image's stem, or of the stem without a face's four numbers; None without one."""
    stem = str(Path(path).with_suffix(""))
    parts = stem.split("_")
    for candidate in (stem, *(["_".join(parts[:-4])] if len(parts) >= 5 else [])):
        if (file := Path(candidate + ending)).is_file():
            with file.open(encoding="utf-8") as opened:
                lines = opened.readlines()
            assert lines, f"caption file is empty: {file}"
            return "\n".join(line.strip() for line in lines if line.strip()) if wildcard else lines[0].strip()
    return None


def loaded(subset: Subset, ending: str = ".txt", wildcard: bool = False) -> list[Info]:
    """The images of a subset with their captions."""
    if subset.table is None:
        said = ((path, caption_of(path, ending, wildcard)) for path in images(subset.folder))
        return [
            Info(path, subset.class_tokens if text is None else text, subset.repeats, subset.reg) for path, text in said
        ]
    found = []
    for key, entry in subset.table.items():
        path = Path(subset.folder) / key
        assert path.is_file(), f"not found: {path}"
        parts = [entry[name] for name in ("caption", "tags") if entry.get(name)]
        found.append(Info(str(path), ",".join(parts), subset.repeats, subset.reg))
    return found


def registered(infos: list[Info]) -> dict[str, int]:
    """How often an epoch shows each image: training as told, the others round and round until they are as many."""
    shown = {info.path: info.repeats for info in infos if not info.reg}
    wanted, count, first = sum(shown.values()), 0, True
    others = [info for info in infos if info.reg]
    while others and count < wanted:
        for info in others:
            if first:
                shown[info.path] = info.repeats
                count += info.repeats
            else:
                shown[info.path] += 1
                count += 1
            if count >= wanted:
                break
        first = False
    return shown


def prompt_of(info: Info) -> str:
    """What the model is told where no option of captions is set: the first line."""
    return info.caption.split("\n")[0]


def cut_to(width: int, height: int, resolution: int, steps: int = 64) -> tuple[int, int]:
    """The size that is trained on with bucket_no_upscale: images are reduced to the area, then cut to steps."""
    area = resolution * resolution
    if width * height > area:
        aspect = width / height
        wide, high = math.sqrt(area * aspect), math.sqrt(area / aspect)
        by_width = (round_down(wide, steps), round_down(wide, steps) / aspect)
        by_height = (round_down(high, steps) * aspect, round_down(high, steps))
        errors = [abs(w / round_down(h, steps) - aspect) for w, h in (by_width, by_height)]
        width, height = map(round, by_width if errors[0] <= errors[1] else by_height)
    return width - width % steps, height - height % steps


def round_down(value: float, steps: int) -> int:
    return int(value + 0.5) - int(value + 0.5) % steps
