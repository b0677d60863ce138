"""Where models are on this machine: a folder of the user's, prep's models folder, or the Hugging Face cache."""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.models.catalog import CACHED as CACHED_PREFIX
from pipeline.models.catalog import CATALOG, COMMITS, cached_repo_id, catalog_entry, named_folder
from pipeline.models.hub_cache import downloaded_commit, find_snapshot, has_file, snapshot_in, snapshot_origin
from pipeline.models.pull_record import PulledModel, read_record, sizes_match
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace

PART = ".part"  # ending of the folder in which an unfinished download is kept
INSTALLED, CACHED = "installed", "in the Hugging Face cache"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
_LFS_POINTER = b"version https://git-lfs.github.com/spec"
_NAME_IT = "Give a folder, or a model from: prep models list"


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model on this machine."""

    folder: Path
    name: str  # hub id, or the folder's name
    revision: str  # commit on the hub; empty where none is recorded


def models_folder() -> Path:
    """prep's models folder, one subfolder per model: $PREP_MODELS, else prep/models in the user's cache folder."""
    if chosen := os.environ.get("PREP_MODELS"):
        return Path(chosen).expanduser().absolute()
    home = Path.home()
    caches = {
        "darwin": home / "Library" / "Caches",
        "win32": Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"),
    }
    # The XDG base directory specification: a relative path there is to be ignored.
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (xdg if xdg.is_absolute() else caches.get(sys.platform, home / ".cache")) / "prep" / "models"


def model_folder(repo_id: str) -> Path:
    """The subfolder of prep's models folder for this hub id, whether it exists or not."""
    return models_folder() / repo_id.replace("/", "--")


def find_model(model: str, workspace: Workspace, needs: tuple[str, ...]) -> LocalModel:
    """The model that `model` names, with all files of `needs`.

    An existing folder (relative to the workspace, absolute, or with ~) comes first; else a short name
    of the catalog or a hub id is looked up in prep's models folder, then in the Hugging Face cache.
    PrepError, with the command that downloads the model, when it or one of its files is missing.
    """
    if not model:
        raise PrepError("No model is named.", _NAME_IT)
    path = workspace.source(os.path.expanduser(model))  # noqa: PTH111 - Path.expanduser raises for an unknown ~name
    if path.is_dir():
        repo_id = path.name.startswith(CACHED_PREFIX) and cached_repo_id(str(path))
        return require_files((repo_id and snapshot_in(path, repo_id, needs)) or path, needs)
    if _is_path(model):
        raise PrepError(f"There is no model folder {path}.", _NAME_IT)
    repo_id = resolve_repo_id(model)
    own = model_folder(repo_id)
    complete = own.is_dir() and all((own / file).is_file() for file in needs)
    folder = (own if complete else find_snapshot(repo_id, needs)) or own
    if not folder.is_dir():
        raise PrepError(f"The model {model} is not on this machine.", install_hint(repo_id))
    return require_files(folder, needs)


def require_files(folder: Path, needs: tuple[str, ...] = ()) -> LocalModel:
    """The model in `folder`; PrepError when files of `needs` are missing, or differ from the recorded ones."""
    if folder.name.endswith(PART):
        raise PrepError(f"{folder} is an unfinished download.", "Finish it: prep models pull NAME")
    pulled = read_record(folder)
    name, revision = (pulled.name, pulled.revision) if pulled else _origin(folder)
    hint = install_hint(name) if _HUB_ID.fullmatch(name) else f"Copy the model's files into {folder} again."
    missing = [file for file in needs if not (folder / file).is_file()]
    if missing and missing == list(needs) and (kind := kind_of(folder)):
        raise PrepError(
            f"{folder} holds a model of another kind ({kind}): it has no {_join(missing)}.",
            "To see which model is for what: prep models list",
        )
    if missing:
        raise PrepError(f"The model folder {folder} lacks {_join(missing)}.", hint)
    for file in needs:
        _check_file(folder / file, file, pulled, hint)
    return LocalModel(folder, name, revision)


def _origin(folder: Path) -> tuple[str, str]:
    """Hub id and commit of a folder that prep did not download, as far as it says where it is from; else its name."""
    commit = downloaded_commit(folder)
    pinned = next((catalog_entry(name) for name, pin in COMMITS.items() if pin == commit), None)
    found = (pinned.repo_id, commit) if pinned else None
    return snapshot_origin(folder) or found or (_model_name(folder), "")


def _check_file(path: Path, name: str, pulled: PulledModel | None, hint: str) -> None:
    size = path.stat().st_size
    with path.open("rb") as handle:
        if handle.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise PrepError(f"{path} is a git-lfs pointer, not the file that it points to.", hint)
    if pulled and name in pulled.files and size != (recorded := pulled.files[name].size):
        raise PrepError(f"{path} has {size:,} bytes; {recorded:,} were downloaded.", hint)


def kind_of(folder: Path) -> str:
    """The class that a model's own configuration names; empty where there is none, as for ONNX models."""
    for file, key in (("model_index.json", "_class_name"), ("config.json", "architectures")):
        try:
            config = json.loads((folder / file).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        names = config.get(key) if isinstance(config, dict) else None
        if isinstance(first := names[0] if isinstance(names, list) and names else names, str):
            return escape_control(first)
    return ""


def resolve_repo_id(model: str) -> str:
    """The hub id for a short name; a hub id is returned as it is. PrepError for anything else."""
    if entry := catalog_entry(model):
        return entry.repo_id
    if _HUB_ID.fullmatch(model) and "--" not in model and ".." not in model:
        return model
    close = difflib.get_close_matches(model, [entry.name for entry in CATALOG], n=1)
    hint = f"Did you mean {close[0]}? All names: prep models list" if close else "All names: prep models list"
    raise PrepError(f"{model!r} is neither a folder nor a model that prep knows.", hint)


def install_hint(repo_id: str) -> str:
    """How to get a model: the command, the download size, and where files copied by hand belong."""
    entry = catalog_entry(repo_id)
    size = f" ({format_bytes(entry.size)})" if entry else ""
    files = f" {_join(entry.files)}" if entry and len(entry.files) <= 3 else " its files"
    name = entry.name if entry else repo_id
    return f"Get it: prep models pull {name}{size}. Or copy{files} into {model_folder(repo_id)}"


def format_bytes(size: int) -> str:
    """A number of bytes for people: 379 MB, 1.9 GB."""
    for unit, bytes in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= bytes:
            return f"{size / bytes:.{1 if size < 10 * bytes else 0}f} {unit}"
    return f"{size} bytes"


def state_of(repo_id: str, files: tuple[str, ...] = ()) -> str:
    """INSTALLED, CACHED, 'not installed', 'partly downloaded', 'incomplete' or 'damaged'; `files` may be patterns."""
    folder = model_folder(repo_id)
    if not folder.is_dir():
        if find_snapshot(repo_id, files):
            return CACHED
        return "partly downloaded" if folder.with_name(f".{folder.name}{PART}").is_dir() else "not installed"
    pulled = read_record(folder)
    if pulled and not sizes_match(folder, pulled):
        return "damaged"
    return INSTALLED if all(has_file(folder, pattern) for pattern in files) else "incomplete"


def local_folder(repo_id: str, files: tuple[str, ...] = ()) -> Path | None:
    """The folder of a model that `state_of` calls installed or cached, or that is damaged; else None."""
    folder = model_folder(repo_id)
    return folder if folder.is_dir() else find_snapshot(repo_id, files)


def unlisted_models() -> list[str]:
    """Hub ids of the models in prep's models folder that are not in the catalog."""
    root = models_folder()
    folders = [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    names = sorted(_model_name(path) for path in folders if not path.name.startswith("."))
    return [name for name in names if _HUB_ID.fullmatch(name) and ".old" not in name and not catalog_entry(name)]


def _model_name(folder: Path) -> str:
    """The hub id of a subfolder of prep's models folder, or of one that kohya's tools name; else the folder's name."""
    owner, separator, name = folder.name.partition("--")
    if separator and folder.parent == models_folder():
        return f"{owner}/{name}"
    entry = named_folder(folder.name)
    return entry.repo_id if entry else folder.name


def _is_path(model: str) -> bool:
    return model.startswith((".", "~")) or Path(model).is_absolute() or "\\" in model or model.count("/") > 1


def _join(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
