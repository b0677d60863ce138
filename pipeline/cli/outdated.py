"""Tells that a manifest is not up to date: one line for people, the findings for scripts, or a refusal."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from pipeline.manifest import Manifest
from pipeline.ranks import is_main_process
from pipeline.registry import ORDER, read_recipe
from pipeline.staleness import Outdated, causes, how_to_mend, outdated
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace

_BEFORE_EDITS = ("crop", "augment", "tag")
_MANIFESTS = "manifests"


def allow_stale_option() -> click.Option:
    return click.Option(["--allow-stale"], is_flag=True, help="Use the dataset although something is newer than it.")


def outdated_manifest(workspace: Workspace, manifest: Manifest) -> list[Outdated]:
    """Why one of the workspace's manifests is not up to date; none for a manifest of another place."""
    name = manifest.path.stem.partition(".")[0]
    return outdated(workspace, read_recipe(workspace), name) if name in ORDER else []


def outdated_file(path: Path) -> list[Outdated]:
    """Why a manifest, named by its file, is not up to date; none if the file is in no workspace."""
    folder = path.resolve().parent
    workspace = Workspace(folder.parent)
    if folder.name != _MANIFESTS or not workspace.recipe.is_file() or not path.is_file():
        return []
    return outdated_manifest(workspace, Manifest.read(path))


def outdated_tags(workspace: Workspace) -> list[Outdated]:
    """Why what edits are made on is not up to date: the stages up to tag that have run; edits themselves are newer."""
    done = [name for name in _BEFORE_EDITS if workspace.manifest(name).is_file()]
    return outdated(workspace, read_recipe(workspace), done[-1]) if done else []


def warn_outdated(found: list[Outdated], what: str, quiet: bool = False) -> None:
    """Say on stderr, in one line, that `what` is used and what is newer."""
    if found and not quiet and is_main_process():
        click.echo(f"{what} is not up to date: {escape_control(causes(found))}. {mending(found)}", err=True)


def mending(found: list[Outdated]) -> str:
    """'prep build brings it up to date.'"""
    fix = how_to_mend(found)
    return f"{fix} bring{'' if ', then ' in fix else 's'} it up to date."


def stale_json(found: list[Outdated] | tuple[Outdated, ...]) -> dict[str, Any]:
    """The findings under the key `stale`; nothing when all is up to date."""
    return {"stale": [asdict(one) for one in found]} if found else {}
