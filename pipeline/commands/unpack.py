"""prep unpack: makes a workspace of the file that prep pack wrote, on the machine that trains."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.commands.pack import CONTENTS, FORMAT, LEFT
from pipeline.errors import PrepError
from pipeline.exchange.archives import unpack as unpack_archive
from pipeline.manifest import Manifest
from pipeline.recipe import Recipe
from pipeline.registry import all_stages, read_recipe
from pipeline.staleness import effective_plans, how_to_mend, outdated, stage_statuses
from pipeline.tag_text import escape_control
from pipeline.workspace import RECIPE, Workspace
from stages.build import write_dataset

_INCOMPLETE = "Copy it again, or pack the workspace again: prep pack"


@dataclass(frozen=True, slots=True)
class UnpackResult:
    """The new workspace, what it lacks on this machine, and the commands that are next."""

    workspace: Workspace
    images: int
    missing: tuple[str, ...]
    next_step: str


def unpack(source: Path, folder: Path) -> UnpackResult:
    """Make the workspace `folder` of a packed one, with its dataset/; all of it or nothing.

    PrepError if `folder` exists, for a file that is incomplete or not from prep pack, and for a hostile one: names that
    lead out of it, links, and more bytes than its size explains.
    """
    if folder.is_symlink() or folder.exists():
        raise PrepError(f"{folder} exists already.", f"Name a folder that does not: prep unpack {source} FOLDER")
    if not source.is_file():
        raise PrepError(f"There is no file {source}.", "Name a file that prep pack wrote.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        unpack_archive(source, draft / folder.name, _is_ours, _INCOMPLETE)
        contents = _check_complete(draft / folder.name, source)
        workspace = Workspace((draft / folder.name).resolve())
        recipe = read_recipe(workspace)
        if workspace.manifest("build").is_file():
            write_dataset(Manifest.read(workspace.manifest("build")), workspace)
        workspace.root.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return _result(folder, recipe, contents)


def _is_ours(path: PurePosixPath) -> bool:
    return path.parts[0] not in LEFT


def _check_complete(root: Path, source: Path) -> dict[str, Any]:
    """The list of contents, which is deleted; PrepError if the files are not those that it says."""
    try:
        contents = json.loads((root / CONTENTS).read_bytes())
        version, wanted = contents["format"], (contents["files"], contents["bytes"])
        left_out = contents["not_packed"]
        valid = isinstance(left_out, dict) and all(isinstance(value, str) for value in left_out.values())
    except (OSError, ValueError, KeyError, TypeError):
        valid = False
    if not valid:
        raise PrepError(f"{escape_control(str(source))} is no file of prep pack.", "Name a file that prep pack wrote.")
    if version != FORMAT:
        raise PrepError(f"{escape_control(str(source))} has format {version!r}.", "Update prep to unpack it.")
    (root / CONTENTS).unlink()
    sizes = [path.stat().st_size for path in root.rglob("*") if path.is_file()]
    if (len(sizes), sum(sizes)) != wanted:
        raise PrepError(f"{escape_control(str(source))} is not complete.", _INCOMPLETE)
    return dict(contents)


def _result(folder: Path, recipe: Recipe, contents: dict[str, Any]) -> UnpackResult:
    """What the workspace lacks here, and the command to run next."""
    workspace = Workspace(folder.resolve())
    images = Manifest.read(workspace.manifest("crop")).counts.images
    missing = [*_notes(workspace, recipe), *_missing_models(workspace, recipe)]
    for option, value in contents["not_packed"].items():
        if not workspace.source(os.path.expanduser(value)).exists():  # noqa: PTH111 - raises for an unknown ~name
            missing.append(f"{RECIPE}, {option}: {value} is not here; put it there, or change {RECIPE}")
    stale = outdated(workspace, recipe, "build")
    trains = any(plan.name == "train" for plan in all_stages(recipe))
    command = how_to_mend(stale) if stale else "prep train" if trains else "prep train --base MODEL"
    here = shlex.join(["prep", "-C", str(folder)])
    return UnpackResult(workspace, images, tuple(dict.fromkeys(missing)), command.replace("prep ", f"{here} "))


def _notes(workspace: Workspace, recipe: Recipe) -> Iterator[str]:
    for status in stage_statuses(workspace, recipe):
        yield from status.notes


def _missing_models(workspace: Workspace, recipe: Recipe) -> Iterator[str]:
    """Which models of the stages are not on this machine, and how to get them."""
    for plan in effective_plans(workspace, recipe):
        for stage in plan.stages:
            try:
                stage.models(workspace)
            except PrepError as error:
                if not stage.needs_sources:  # what is missing then is the folder of images
                    yield f"{stage.label}: {error.wrong} {error.hint}".strip()
