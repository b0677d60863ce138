"""prep runs: the training runs of a workspace, how their settings differ, and what of them can be deleted."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PrepError
from pipeline.options import format_value
from pipeline.workspace import Workspace
from training.checkpoints.run_folder import RunFolder, run_folders

_UNCOUNTED = ("output",)  # parameters that tell runs apart by name only
_CACHES = ("latents", "texts")  # folders of the cache that training fills again when it needs them


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run as prep runs shows it."""

    name: str
    finished: bool
    steps: int  # trained so far
    dataset: str  # digest of the manifest; empty where it is not known
    settings: dict[str, str]  # those in which the runs of the workspace differ
    loss: float | None  # mean of the last tenth of the steps
    verdict: str  # of validation on the weights in the file; empty without validation images
    files: dict[str, int]  # bytes of each result and exported checkpoint, by path in the workspace
    states: int  # bytes of what the run can be resumed from


@dataclass(frozen=True, slots=True)
class Deletion:
    """A folder that pruning deletes."""

    path: Path
    what: str  # what it is, in a few words
    size: int  # bytes


def list_runs(workspace: Workspace) -> list[RunSummary]:
    """All runs of the workspace by name, each before those that were kept of it."""
    folders = run_folders(workspace.runs)
    params = {folder.name: _settings(folder) for folder in folders}
    differing = _differing(list(params.values()))
    return [
        RunSummary(
            folder.name,
            bool(folder.result),
            folder.last_step,
            folder.step.input if folder.step else "",
            {name: value for name, value in params[folder.name].items() if name in differing},
            _loss(folder.summary),
            _verdict(folder.summary),
            {workspace.relative(path): size_of(path) for path in (*folder.result, *folder.exports)},
            size_of(folder.checkpoints),
        )
        for folder in folders
    ]


def plan_deletions(workspace: Workspace, names: Iterable[str], unfinished: bool) -> list[Deletion]:
    """What pruning deletes: caches, the states of finished runs, of unfinished ones if asked, and whole named runs.

    PrepError when a named run does not exist.
    """
    folders = {folder.name: folder for folder in run_folders(workspace.runs)}
    if missing := [name for name in names if name not in folders]:
        raise PrepError(f"There is no run {missing[0]}.", "See which runs there are: prep runs")
    return [deletion for deletion in _deletions(workspace, folders, set(names), unfinished) if deletion.size]


def delete_all(deletions: Iterable[Deletion]) -> None:
    """Delete what was planned; call it only with the workspace locked."""
    for deletion in deletions:
        shutil.rmtree(deletion.path)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; 0 when there is none. Links are not followed."""
    if path.is_symlink() or not path.exists():
        return 0
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())


def _deletions(
    workspace: Workspace, folders: dict[str, RunFolder], names: set[str], unfinished: bool
) -> Iterator[Deletion]:
    for name, folder in folders.items():
        if folder.path.is_symlink():
            continue
        if name in names:
            yield Deletion(folder.path, "the whole run, its results included", size_of(folder.path))
        elif folder.result:
            yield Deletion(folder.checkpoints, "states of a finished run", size_of(folder.checkpoints))
        elif unfinished:
            yield Deletion(folder.checkpoints, "states of an unfinished run", size_of(folder.checkpoints))
    for name in _CACHES:
        path = workspace.cache / name
        yield Deletion(path, "cache, which training fills again", size_of(path))


def _settings(folder: RunFolder) -> dict[str, str]:
    """The parameters of a run and its base model, as text."""
    step = folder.step
    if step is None:
        return {}
    base = {"base": step.models[0].name} if step.models else {}
    return base | {name: _shown(value) for name, value in step.params.items() if name not in _UNCOUNTED}


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else format_value(value)


def _differing(settings: list[dict[str, str]]) -> set[str]:
    """The names whose values are not the same in all runs that have them."""
    values: dict[str, set[str]] = {}
    for run in settings:
        for name, value in run.items():
            values.setdefault(name, set()).add(value)
    return {name for name, found in values.items() if len(found) > 1}


def _loss(summary: dict[str, Any]) -> float | None:
    loss = summary.get("loss")
    last = loss.get("last") if isinstance(loss, dict) else None
    return last if isinstance(last, float) else None


def _verdict(summary: dict[str, Any]) -> str:
    """The verdict on the checkpoint whose weights the file has."""
    validation, metadata = summary.get("validation"), summary.get("metadata")
    if not isinstance(validation, list) or not isinstance(metadata, dict):
        return ""
    judged = {str(one.get("step")): one.get("verdict", "") for one in validation if isinstance(one, dict)}
    return str(judged.get(str(metadata.get("ss_steps")), ""))
