"""prep demo: a workspace on the drawn world that comes with prep, and on the small models that know it."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.commands.init import InitOptions, init
from pipeline.errors import PrepError
from pipeline.registry import tables
from pipeline.workspace import Workspace, write_atomic

_PROMPTS = "prompts.txt"
# The trigger alone, then beside what the images do not show together, and what must stay as it was: other men.
_ASKED = ("smith", "smith, kitchen, reading", "smith, forest, night, snow", "smith, red shirt, street", "man", "woman")
_SIDE = 64  # pixels: what the embedded base was made for
_LEARNED = {"method": "locon", "rank": 8, "steps": 300, "batch_size": 4, "learning_rate": 2e-3}
_OWN = ("apron", "beard", "facial hair", "mustache", "blue shirt", "brown hair", "short hair")


def create_demo(folder: Path) -> Workspace:
    """The demo's workspace, new or as an earlier demo left it; images and models stay where prep is installed."""
    if (folder / "prep.toml").is_file():
        return Workspace(folder.resolve())
    if folder.exists() and any(folder.iterdir()):
        raise PrepError(f"{folder} is not empty.", "Name another folder: prep demo FOLDER")
    samples = Path(str(importlib.resources.files("sample_data")))
    options: dict[str, dict[str, Any]] = {
        "crop": {"resolution": _SIDE, "focus": "center"},
        "augment": {"flip": True},
        "tag.wd14": {"model": str(samples / "models" / "mini-tagger")},
        "merge": {"absorb": list(_OWN)},
        "train": {
            "base": str(samples / "models" / "mini-diffusion"),
            "sample_prompts": _PROMPTS,
            "output": "demo",
        }
        | _LEARNED,
    }
    beginning = InitOptions((("smith", "man", str(samples / "smith")),), (("man", str(samples / "man")),), options)
    workspace = init(folder, beginning, tables(("wd14",)))
    write_atomic(workspace.root / _PROMPTS, "".join(f"{text} --l 4\n" for text in _ASKED).encode())
    return workspace


def next_steps(workspace: Workspace) -> Iterator[str]:
    """Where everything is."""
    places = {
        "recipe": workspace.recipe,
        "manifests": workspace.manifest("build").parent,
        "data set": workspace.dataset,
        # Its folder is named as it is; files of checkpoints have longer names.
        "adapter": next(
            (f for f in sorted(workspace.runs.glob("*/*.safetensors")) if f.stem == f.parent.name), workspace.runs
        ),
        "samples": workspace.runs / "demo" / "samples" / "all.png",
    }
    yield ""
    yield from (f"{what:<10} {path}" for what, path in places.items())
    yield ""
    yield f"look at it:   prep -C {workspace.root} review"
    yield f"as a page:    prep -C {workspace.root} report"
    yield f"replay it:    prep rebuild {workspace.manifest('build')} {workspace.root}-again"
