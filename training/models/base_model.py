"""Finds the base model that the user names, and hashes its weights."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.models.catalog import catalog_entry
from pipeline.models.file_hashes import joined_sha256, known_sha256
from pipeline.models.store import find_model
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace
from training.models.families import base_parts, denoisers
from training.models.local_bases import MINI_NAME, SHORT_NAMES, how_to_name_a_base
from training.models.mini import SHA256, VAE_SHA256, mini_folder

_NEEDED = ("vae", "text_encoder")
_SINGLE = (".safetensors", ".ckpt")
_HUB_ID = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w./-]+))?")
_SAVE_AGAIN = "prep reads safetensors only, and no variants such as fp16: save the model again without a variant."
_COPY_AGAIN = "Copy the model again."


@dataclass(frozen=True, slots=True)
class BaseFiles:
    """A base model on disk: a diffusers folder, or a single file. The mini base model is made when it is opened."""

    name: str  # mini, a hub id (also where a short name was given), or the name of the folder or file
    path: Path
    sha256: str  # of the file, or of the hashes of the folder's weight files
    vae: str  # hash of the VAE, on which the latents depend
    revision: str = ""  # commit on the hub
    vae_path: Path | None = None  # folder or file of a VAE that replaces the model's own


def find_base(text: str, workspace: Workspace) -> BaseFiles:
    """The base model that `text` names: a diffusers folder, a single file, a short name, a hub id, or 'mini'.

    Paths are relative to the workspace or else to the current folder. A short name such as sd15 or a hub id, either of
    which may end in '@revision', must have been downloaded: prep models pull. PrepError when there is no such model,
    and when `text` is empty: which base models there are on this machine, and how to get one.
    """
    if not text:
        raise PrepError("No base model is named.", how_to_name_a_base())
    if text == MINI_NAME:
        return BaseFiles(MINI_NAME, mini_folder(workspace.cache), SHA256, VAE_SHA256)
    if path := _existing_path(text, workspace):
        return _folder(path, path.resolve().name) if path.is_dir() else _single(path)
    name, _, revision = text.partition("@")
    if name in SHORT_NAMES:
        return _pulled(SHORT_NAMES[name], revision, workspace)
    if (hub := _HUB_ID.fullmatch(text)) and not text.startswith(".") and not text.endswith(_SINGLE):
        return _pulled(hub[1], hub[2] or "", workspace)
    if (other := catalog_entry(name)) is not None:
        raise PrepError(f"{name} is a model for prep tag {other.used_by}, not a base model.", how_to_name_a_base())
    raise PrepError(f"There is no base model {escape_control(text)}.", how_to_name_a_base(text))


def with_vae(base: BaseFiles, text: str, workspace: Workspace) -> BaseFiles:
    """The same base model with the VAE that `text` names, a folder or a single file; its own when that is empty."""
    if not text:
        return base
    path = _existing_path(text, workspace)
    if path is None:
        raise PrepError(f"There is no VAE {text!r}.", "Give a folder with its config.json, or a .safetensors file.")
    if path.is_file():
        return replace(base, vae=_single(path).sha256, vae_path=path)
    folder = path if (path / "config.json").is_file() else path / "vae"
    if not (folder / "config.json").is_file():
        raise PrepError(
            f"{path} is not the folder of a VAE: it has no config.json.", "Give that folder, or its .safetensors file."
        )
    return replace(base, vae=joined_sha256([known_sha256(file) for file in weight_files(folder)]), vae_path=folder)


def weight_files(folder: Path) -> list[Path]:
    """The weight file of a part's folder, or the files that its index lists; PrepError when one is missing."""
    parts = base_parts()
    names = dict.fromkeys(part.weights for part in parts.values())
    for name in names:
        if (folder / name).is_file():
            return [folder / name]
    for name in names:
        if (folder / f"{name}.index.json").is_file():
            return _indexed_files(folder / f"{name}.index.json")
    raise PrepError(f"{folder} has no {parts.get(folder.name, parts['vae']).weights}.", _SAVE_AGAIN)


def _existing_path(text: str, workspace: Workspace) -> Path | None:
    """An existing path, relative to the workspace or else to the current folder."""
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # an unknown ~name
        return None
    return next((root / path for root in (workspace.root, Path.cwd()) if text and (root / path).exists()), None)


def _folder(path: Path, name: str, revision: str = "") -> BaseFiles:
    known = denoisers()
    denoiser = next((part for part in known if (path / part / "config.json").is_file()), known[0])
    for part in (denoiser, *_NEEDED):
        if not (path / part / "config.json").is_file():
            raise PrepError(
                f"{path} is not a diffusers folder of a complete model: it has no {part}/config.json.",
                "Give the folder that contains model_index.json, or a single .safetensors file.",
            )
    parts = [part for part in base_parts() if (path / part / "config.json").is_file()]
    hashes = {part: joined_sha256([known_sha256(file) for file in weight_files(path / part)]) for part in parts}
    return BaseFiles(name, path, joined_sha256(list(hashes.values())), hashes["vae"], revision)


def _indexed_files(index: Path) -> list[Path]:
    """The files that an index lists."""
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PrepError(f"{index} is damaged.", _COPY_AGAIN) from None
    for name in names:
        if Path(name).name != name or not (index.parent / name).is_file():
            raise PrepError(f"{index.parent} has no {Path(name).name}, which its index lists.", _COPY_AGAIN)
    return [index.parent / name for name in names]


def _single(path: Path) -> BaseFiles:
    if path.suffix.lower() not in _SINGLE:
        raise PrepError(f"{path.name} is not a model file that prep reads.", "It reads .safetensors and .ckpt files.")
    sha256 = known_sha256(path)
    return BaseFiles(path.name, path, sha256, sha256)


def _pulled(hub: str, revision: str, workspace: Workspace) -> BaseFiles:
    found = find_model(hub, workspace, ("model_index.json",))
    if revision and not found.revision.startswith(revision):
        commit = f"the commit {found.revision[:12]}" if found.revision else "an unknown commit"
        raise PrepError(
            f"{hub} was downloaded at {commit}, not {revision}.",
            f"Download that one: prep models pull {hub} --revision {revision}",
        )
    return _folder(found.folder, hub, found.revision)
