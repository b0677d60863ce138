"""prep demo: a workspace on the photographs that come with prep."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.commands.init import Beginning, init
from pipeline.errors import PrepError
from pipeline.line import TABLES
from pipeline.workspace import Workspace

# The sample pictures are small, and the embedded base model learns too little to be worth a long training.
_OPTIONS: dict[str, dict[str, Any]] = {
    "crop": {"resolution": 256, "focus": "face"},
    "augment": {"mirror": True},
    "merge": {"absorb": ["collins=face", "chelsea=orange theme"]},
    "train": {"steps": 60, "output": "demo"},
}


def begin(folder: Path) -> Workspace:
    """The demo's workspace, new or as an earlier demo left it; its pictures stay where prep is installed."""
    if (folder / "prep.toml").is_file():
        return Workspace(folder.resolve())
    if folder.exists() and any(folder.iterdir()):
        raise PrepError(f"{folder} is not empty.", "Name another folder: prep demo FOLDER")
    samples = Path(str(importlib.resources.files("sample_data")))
    subjects = (("collins", "woman", str(samples / "collins")), ("chelsea", "cat", str(samples / "cat")))
    return init(folder, Beginning(subjects, (("woman", str(samples / "woman")),), _OPTIONS), TABLES)


def tour(workspace: Workspace) -> Iterator[str]:
    """Where everything is."""
    places = {
        "recipe": workspace.recipe,
        "manifests": workspace.manifest("build").parent,
        "data set": workspace.dataset,
        # Its folder is named as it is; files of checkpoints have longer names.
        "adapter": next(
            (f for f in sorted(workspace.runs.glob("*/*.safetensors")) if f.stem == f.parent.name), workspace.runs
        ),
    }
    yield ""
    yield from (f"{what:<10} {path}" for what, path in places.items())
    yield ""
    yield f"look at it:   prep -C {workspace.root} review"
    yield f"as a page:    prep -C {workspace.root} report"
    yield f"replay it:    prep rebuild {workspace.manifest('build')} {workspace.root}-again"
