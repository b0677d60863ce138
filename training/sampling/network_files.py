"""Finds the files of networks that prompts name, by file name or by the name in their metadata, and hashes them."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import PrepError
from pipeline.models.store import models_folder
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace

_SUFFIXES = (".safetensors", ".pt", ".ckpt", ".bin")
_ALIAS = "ss_output_name"  # kohya's metadata: the name that the file was given when it was trained
_SKIPPED = "checkpoints"  # in a run's folder: what a run resumes from is no network
_LARGEST_HEADER = 100_000_000  # bytes, the limit of safetensors' own reader
_BLOCK = 1 << 20


def network_folders(kind: str, given: Sequence[Path], workspace: Workspace | None) -> list[Path]:
    """The folders in which networks are looked for, in this order: those given, the workspace's runs, prep's models.

    `kind` names the subfolder of prep's models folder: loras, embeddings, ...; PrepError for a given one that is none.
    """
    for folder in given:
        if not folder.is_dir():
            raise PrepError(f"There is no folder {folder}.", "Give a folder with files of networks.")
    usual = [*([workspace.runs] if workspace else []), models_folder() / kind]
    return [*given, *(folder for folder in usual if folder.is_dir())]


def list_networks(folders: Sequence[Path]) -> dict[str, Path]:
    """The network files of folders and their subfolders by name, which is that of the file; the first of a name."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            inner = path.relative_to(folder).parts
            left_out = _SKIPPED in inner or any(piece.startswith(".") for piece in inner)
            if path.suffix.lower() in _SUFFIXES and not left_out and path.is_file():
                found.setdefault(path.stem, path)
    return found


def find_network(name: str, folders: Sequence[Path]) -> Path:
    """The file of a network by its name, or the output name in its metadata; PrepError with close names if none is."""
    files = list_networks(folders)
    if name in files:
        return files[name]
    aliases = {alias: path for path in reversed(files.values()) if (alias := read_metadata(path).get(_ALIAS, ""))}
    if name in aliases:
        return aliases[name]
    near = difflib.get_close_matches(name, [*files, *aliases], 3, 0.5)
    where = ", ".join(str(folder) for folder in folders)
    searched = (
        f"Searched: {where}. Give another folder: --lora-dir" if where else "Give the folder that it is in: --lora-dir"
    )
    hint = f"Close names: {', '.join(map(escape_control, near))}." if near else f"{searched} FOLDER"
    raise PrepError(f"There is no file for the network {escape_control(name)!r}.", hint)


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata in the header of a .safetensors file; empty for other files and damaged ones."""
    metadata = read_header(path).get("__metadata__")
    return {str(key): str(value) for key, value in metadata.items()} if isinstance(metadata, dict) else {}


def read_header(path: Path) -> dict[str, Any]:
    """The header of a .safetensors file: its tensors' types and shapes by name; empty for other files."""
    if path.suffix.lower() != ".safetensors":
        return {}
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if size <= _LARGEST_HEADER else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def network_hash(path: Path) -> str:
    """The 12 hex digits by which WebUI names a network: of the sha256 of a file, of .safetensors without the header."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if path.suffix.lower() == ".safetensors":
            file.seek(int.from_bytes(file.read(8), "little"), 1)
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()[:12]
