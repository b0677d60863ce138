"""sha256 of model files, remembered between runs because a base model takes a minute to read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.history import Model
from pipeline.models.hub_cache import find_snapshot
from pipeline.models.onnx_external_data import GRAPH, external_data
from pipeline.models.store import LocalModel, model_folder, models_folder, require_files
from pipeline.workspace import file_sha256, write_atomic

_CACHE_FILE = ".sha256.json"
_MIN_AGE_NS = 2_000_000_000  # a younger file may change again within one tick of its file system's clock


def model_hashes(model: LocalModel, files: Iterable[str]) -> tuple[Model, ...]:
    """Provenance of a model's files: sha256 of each, computed again only when its size or times have changed.

    The files in which an ONNX graph keeps its weights follow it; PrepError where one of them is missing.
    """
    every = [name for file in files for name in (file, *weights_beside(model, file))]
    names = dict.fromkeys(every)
    return tuple(Model(f"{model.name}/{file}", known_sha256(model.folder / file), model.revision) for file in names)


def weights_beside(model: LocalModel, file: str) -> tuple[str, ...]:
    """The files with the weights of an ONNX graph in the model's folder; none for any other file."""
    if not file.endswith(GRAPH):
        return ()
    path = model.folder / file
    names = tuple((Path(file).parent / name).as_posix() for name in external_data(path))
    if names:
        require_files(model.folder, names)
    return names


def known_sha256(path: Path) -> str:
    """sha256 of a file, remembered between runs by its path, size and times."""
    key = str(path.absolute())
    stat = path.stat()
    stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
    match _read_cache().get(key):
        case {"stamp": old, "sha256": str(sha)} if old == stamp:
            return sha
    sha = file_sha256(path)
    if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _MIN_AGE_NS:
        with contextlib.suppress(OSError):  # without a writable folder the file is only read again next time
            existing = {name: entry for name, entry in _read_cache().items() if Path(name).is_file()}
            entries = existing | {key: {"stamp": stamp, "sha256": sha}}
            write_atomic(models_folder() / _CACHE_FILE, json.dumps(entries, indent=1, sort_keys=True).encode())
    return sha


def find_model_file(model: Model) -> Path | None:
    """A recorded model's file on this machine: in its usual places, or wherever a file of that hash was read before."""
    repo_id, _, name = model.name.rpartition("/")
    folders = [model_folder(repo_id), find_snapshot(repo_id, (name,), model.revision)]
    usual = [folder / name for folder in folders if folder]
    for path in (*usual, *map(Path, sorted(_read_cache()))):
        if path.name == name and path.is_file() and known_sha256(path) == model.sha256:
            return path
    return None


def _read_cache() -> dict[str, Any]:
    try:
        cache = json.loads((models_folder() / _CACHE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cache if isinstance(cache, dict) else {}


def joined_sha256(hashes: list[str]) -> str:
    """The hash of a model of several weight files: the hash of theirs, one a line; of a single file its own."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()
