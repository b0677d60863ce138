"""prep demo: a workspace on the photographs that come with prep."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from pathlib import Path

from pipeline.commands.init import init
from pipeline.errors import PrepError
from pipeline.line import TABLES
from pipeline.workspace import Workspace


def begin(folder: Path) -> Workspace:
    """The demo's workspace, new or as an earlier demo left it; its pictures stay where prep is installed."""
    if (folder / "prep.toml").is_file():
        return Workspace(folder.resolve())
    if folder.exists() and any(folder.iterdir()):
        raise PrepError(f"{folder} is not empty.", "Name another folder: prep demo FOLDER")
    samples = Path(str(importlib.resources.files("sample_data")))
    subjects = [("collins", "woman", str(samples / "collins")), ("chelsea", "cat", str(samples / "cat"))]
    return init(folder, subjects, [("woman", str(samples / "woman"))], TABLES)


def tour(workspace: Workspace) -> Iterator[str]:
    """Where everything is."""
    places = {
        "recipe": workspace.recipe,
        "manifests": workspace.manifest("build").parent,
        "data set": workspace.dataset,
        "adapter": next(iter(sorted(workspace.runs.rglob("*.safetensors"))), workspace.runs),
    }
    yield ""
    yield from (f"{what:<10} {path}" for what, path in places.items())
    yield ""
    yield f"look at it:   prep -C {workspace.root} preview"
    yield f"replay it:    prep rebuild {workspace.manifest('build')} {workspace.root}-again"
