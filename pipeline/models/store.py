"""Where models lie: a folder of the user's, or the folder that prep pulls into; and what they hash to."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PrepError
from pipeline.history import Model
from pipeline.models.catalog import CATALOG, known
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace, file_sha256, write_atomic

RECORD = "prep-model.json"  # written last, beside the files of a whole pull
PART = ".part"  # ending of the folder that a pull works in
_MEMORY = ".sha256.json"
_SETTLED = 2_000_000_000  # ns; a file this young may change again within one tick of its clock
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
_POINTER = b"version https://git-lfs.github.com/spec"


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model on this machine."""

    folder: Path
    name: str  # hub id or the folder's name
    revision: str  # commit on the hub; empty when nobody recorded it


@dataclass(frozen=True, slots=True)
class PulledFile:
    """What a pull recorded of one file."""

    size: int
    sha256: str
    source: str = ""  # the file that it was made from, where it is not the hub's own


@dataclass(frozen=True, slots=True)
class Pulled:
    """The record of a whole pull."""

    name: str  # hub id
    revision: str  # commit
    files: dict[str, PulledFile]


def models_folder() -> Path:
    """Where pulled models lie, one folder each: $PREP_MODELS, else prep/models in the user's cache folder."""
    if chosen := os.environ.get("PREP_MODELS"):
        return Path(chosen).expanduser().absolute()
    home = Path.home()
    caches = {
        "darwin": home / "Library" / "Caches",
        "win32": Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"),
    }
    # The XDG rules say that a relative path there counts as none.
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (xdg if xdg.is_absolute() else caches.get(sys.platform, home / ".cache")) / "prep" / "models"


def home_of(hub: str) -> Path:
    """The folder in which the model with this hub id lies, pulled or copied there by hand."""
    return models_folder() / hub.replace("/", "--")


def find_model(model: str, workspace: Workspace, needs: tuple[str, ...]) -> LocalModel:
    """The model that `model` names, with all files of `needs`.

    A folder that exists (relative to the workspace, absolute, or with ~) comes first, then a short
    name from the list of known models or a hub id, which is looked for among the pulled ones.
    PrepError, with the command that gets the model, when it or one of its files is not there.
    """
    if not model:
        raise PrepError("No model is named.", "Name a folder, or a model from: prep models list")
    folder = workspace.source(os.path.expanduser(model))  # noqa: PTH111 - Path.expanduser raises for an unknown ~name
    if not folder.is_dir():
        if _is_path(model):
            raise PrepError(f"There is no model folder {folder}.", "Name a folder, or a model from: prep models list")
        folder = home_of(hub_id(model))
    if not folder.is_dir():
        raise PrepError(f"The model {model} is not on this machine.", install_hint(hub_id(model)))
    return require_files(folder, needs)


def require_files(folder: Path, needs: tuple[str, ...] = ()) -> LocalModel:
    """The model in `folder`; PrepError when files of `needs` are not there, or not as they were pulled."""
    if folder.name.endswith(PART):
        raise PrepError(f"{folder} is a pull that has not ended.", "Go on with it: prep models pull NAME")
    pulled = read_record(folder)
    name = pulled.name if pulled else _name_of(folder)
    mend = install_hint(name) if _HUB_ID.fullmatch(name) else f"Copy the model's files into {folder} again."
    missing = [file for file in needs if not (folder / file).is_file()]
    if missing and missing == list(needs) and (kind := kind_of(folder)):
        raise PrepError(
            f"{folder} holds a model of another kind ({kind}): it has no {_and(missing)}.",
            "Which models are for what: prep models list",
        )
    if missing:
        raise PrepError(f"The model folder {folder} lacks {_and(missing)}.", mend)
    for file in needs:
        size = (folder / file).stat().st_size
        with (folder / file).open("rb") as handle:
            if handle.read(len(_POINTER)) == _POINTER:
                raise PrepError(f"{folder / file} is a git-lfs pointer, not the file that it points to.", mend)
        if pulled and file in pulled.files and size != pulled.files[file].size:
            was = pulled.files[file].size
            raise PrepError(f"{folder / file} has {size:,} bytes; {was:,} were pulled.", mend)
    return LocalModel(folder, name, pulled.revision if pulled else "")


def kind_of(folder: Path) -> str:
    """The class that a model's own file names; empty where there is none, as beside ONNX models."""
    for file, key in (("model_index.json", "_class_name"), ("config.json", "architectures")):
        try:
            plain = json.loads((folder / file).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        named = plain.get(key) if isinstance(plain, dict) else None
        if isinstance(first := named[0] if isinstance(named, list) and named else named, str):
            return escape_control(first)
    return ""


def hub_id(model: str) -> str:
    """The hub id that a short name stands for; a hub id is its own. PrepError when it is neither."""
    if entry := known(model):
        return entry.hub
    if _HUB_ID.fullmatch(model) and "--" not in model and ".." not in model:
        return model
    close = difflib.get_close_matches(model, [entry.name for entry in CATALOG], n=1)
    mean = f"Did you mean {close[0]}? All names: prep models list" if close else "All names: prep models list"
    raise PrepError(f"{model!r} is neither a folder nor a model that prep knows.", mean)


def install_hint(hub: str) -> str:
    """How to get a model: the command, its size, and where copied files may lie."""
    entry = known(hub)
    size = f" ({format_bytes(entry.size)})" if entry else ""
    files = f" {_and(entry.files)}" if entry and len(entry.files) <= 3 else " its files"
    return f"Get it: prep models pull {entry.name if entry else hub}{size}. Or copy{files} into {home_of(hub)}"


def format_bytes(size: int) -> str:
    """A number of bytes as people read it: 379 MB, 1.9 GB; 0 is one that nobody has said."""
    if not size:
        return "size unknown"
    for unit, bytes in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= bytes:
            return f"{size / bytes:.{1 if size < 10 * bytes else 0}f} {unit}"
    return f"{size} bytes"


def state_of(hub: str, files: tuple[str, ...] = ()) -> str:
    """'here', 'not here', 'half pulled', or what is the matter; `files` may be patterns."""
    folder = home_of(hub)
    if not folder.is_dir():
        return "half pulled" if folder.with_name(f".{folder.name}{PART}").is_dir() else "not here"
    pulled = read_record(folder)
    if pulled and not unchanged(folder, pulled):
        return "damaged"
    return "here" if all(any(folder.glob(pattern)) for pattern in files) else "incomplete"


def unchanged(folder: Path, pulled: Pulled) -> bool:
    """Whether all files of a pull are in `folder` with their sizes."""
    return all(_size(folder / name) == entry.size for name, entry in pulled.files.items())


def verify_files(folder: Path) -> Iterator[tuple[str, str]]:
    """Read every file of a pull again: its name, and 'whole', 'changed' or 'missing'."""
    pulled = read_record(folder)
    for name, entry in pulled.files.items() if pulled else ():
        size = _size(folder / name)
        same = size == entry.size and file_sha256(folder / name) == entry.sha256
        yield name, "missing" if size is None else "whole" if same else "changed"


def unlisted_models() -> list[str]:
    """Hub ids of the models on this machine that are not on the list of known ones."""
    root = models_folder()
    folders = [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    names = sorted(_name_of(path) for path in folders if not path.name.startswith("."))
    return [name for name in names if _HUB_ID.fullmatch(name) and ".old" not in name and not known(name)]


def hashes(found: LocalModel, files: Iterable[str]) -> tuple[Model, ...]:
    """Provenance of a model's files: sha256 of each, read again only when size or times have changed."""
    return tuple(Model(f"{found.name}/{file}", known_sha256(found.folder / file), found.revision) for file in files)


def known_sha256(path: Path) -> str:
    """sha256 of a file, remembered between runs by its path, size and times."""
    key = str(path.absolute())
    stat = path.stat()
    stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
    memory = _read_memory()
    match memory.get(key):
        case {"stamp": old, "sha256": str(sha)} if old == stamp:
            return sha
    sha = file_sha256(path)
    if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _SETTLED:
        with contextlib.suppress(OSError):  # a home that cannot be written only costs the time of reading again
            there = {name: entry for name, entry in _read_memory().items() if Path(name).is_file()}
            fresh = there | {key: {"stamp": stamp, "sha256": sha}}
            write_atomic(models_folder() / _MEMORY, json.dumps(fresh, indent=1, sort_keys=True).encode())
    return sha


def file_of(model: Model) -> Path | None:
    """A model's file on this machine: below its hub id, or wherever one of its name and content was read before."""
    hub, _, name = model.name.rpartition("/")
    for path in (home_of(hub) / name, *map(Path, sorted(_read_memory()))):
        if path.name == name and path.is_file() and known_sha256(path) == model.sha256:
            return path
    return None


def read_record(folder: Path) -> Pulled | None:
    """What a pull recorded in this folder; None where files were copied by hand. PrepError when it is damaged."""
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        files = {
            str(name): PulledFile(int(one["size"]), str(one["sha256"]), str(one.get("source", "")))
            for name, one in plain["files"].items()
        }
        # Records travel with copied folders: one that names files elsewhere is not believed.
        if any(Path(name).is_absolute() or ".." in Path(name).parts for name in files):
            raise ValueError("a file outside the folder")
        return Pulled(str(plain["name"]), str(plain["revision"]), files)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise PrepError(
            f"{path} is damaged.", "Delete it to use the files as they are, or pull the model again."
        ) from None


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _read_memory() -> dict[str, Any]:
    try:
        memory = json.loads((models_folder() / _MEMORY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return memory if isinstance(memory, dict) else {}


def _name_of(folder: Path) -> str:
    """The hub id where the folder lies among the pulled ones, else the folder's own name."""
    org, two, name = folder.name.partition("--")
    return f"{org}/{name}" if two and folder.parent == models_folder() else folder.name


def _is_path(model: str) -> bool:
    return model.startswith((".", "~")) or Path(model).is_absolute() or "\\" in model or model.count("/") > 1


def _and(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
