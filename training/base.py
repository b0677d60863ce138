"""The base model: which one the user means, where it lies, and what its weights hash to."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.workspace import Workspace, file_sha256, write_atomic

PARTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
_WANTED = ("model_index.json", "*/*.json", "tokenizer/*.txt", *(f"{part}/{file}" for part, file in PARTS.items()))
_SINGLE = (".safetensors", ".ckpt")


@dataclass(frozen=True, slots=True)
class Base:
    """A base model on disk: a diffusers folder, or one file with everything in it.

    The mini base is made when it is opened, but known before.
    """

    name: str  # mini, a hub id, or the name of the folder or file
    path: Path
    sha256: str  # of the file, or over the hashes of the folder's weight files
    vae: str  # hash of the VAE: what the latents depend on
    revision: str = ""  # the hub's commit


def find_base(text: str, workspace: Workspace) -> Base:
    """The base model that `text` names: 'mini', a diffusers folder, a single file, or a hub id.

    Paths are looked up in the workspace, then in the current folder. A hub id may end in
    '@revision'; it is downloaded once into the hub's own cache.
    """
    if text == "mini":
        from training.mini import SHA256, VAE_SHA256, mini_folder

        return Base("mini", mini_folder(workspace.cache), SHA256, VAE_SHA256)
    for path in (workspace.root / Path(text).expanduser(), Path.cwd() / Path(text).expanduser()):
        if path.is_dir():
            return _folder(path, path.resolve().name, workspace)
        if path.is_file():
            return _single(path, workspace)
    if re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", text) and not text.startswith(".") and not text.endswith(_SINGLE):
        return _hub(text, workspace)
    raise PrepError(
        f"There is no base model {text!r}.",
        "Give a diffusers folder, a .safetensors or .ckpt file, a hub id such as owner/name, or 'mini'.",
    )


def _folder(path: Path, name: str, workspace: Workspace, revision: str = "") -> Base:
    for part, file in PARTS.items():
        if not (path / part / "config.json").is_file():
            raise PrepError(
                f"{path} is not a diffusers folder of a Stable Diffusion 1.x model: it has no {part}/config.json.",
                "Name the folder that holds model_index.json, or the single .safetensors file.",
            )
        if not (path / part / file).is_file():
            raise PrepError(
                f"{path / part} has no {file}.",
                "prep reads safetensors only: save the model again in that form, whole and not as a variant.",
            )
    hashes = {part: _remembered_sha256(path / part / file, workspace) for part, file in PARTS.items()}
    return Base(name, path, joined_sha256(list(hashes.values())), hashes["vae"], revision)


def _single(path: Path, workspace: Workspace) -> Base:
    if path.suffix.lower() not in _SINGLE:
        raise PrepError(f"{path.name} is not a base model that prep reads.", "It reads .safetensors and .ckpt files.")
    sha256 = _remembered_sha256(path, workspace)
    return Base(path.name, path, sha256, sha256)


def _hub(text: str, workspace: Workspace) -> Base:
    """A model of the hub: from the local cache if it is whole there, else downloaded."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    name, _, revision = text.partition("@")

    def fetch(local: bool) -> Path:
        return Path(
            snapshot_download(name, revision=revision or None, allow_patterns=list(_WANTED), local_files_only=local)
        )

    try:
        folder = fetch(local=True)
        whole = all((folder / part / file).is_file() for part, file in PARTS.items())
    except LocalEntryNotFoundError:
        whole = False
    except HFValidationError as error:
        raise PrepError(f"{text!r} is not a hub id: {error}", "It looks like owner/name.") from None
    if not whole:
        try:
            folder = fetch(local=False)
        except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
            raise PrepError(
                f"The base model {text} is not on this machine and could not be fetched: {_first_line(error)}",
                f"With a network: hf download {name}. Or copy its folder here and give: --base FOLDER",
            ) from None
    return _folder(folder, name, workspace, folder.name)


def _first_line(error: Exception) -> str:
    return (str(error).strip().split("\n") or [""])[0].rstrip(".") + "."


def joined_sha256(hashes: list[str]) -> str:
    """One hash for a model of several weight files, from theirs in the order of PARTS."""
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _remembered_sha256(path: Path, workspace: Workspace) -> str:
    """sha256 of a file, remembered by name, size and time: base models take seconds to hash."""
    memory = workspace.cache / "hashes.json"
    try:
        known = dict(json.loads(memory.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        known = {}
    stat = path.stat()
    mark = [stat.st_size, stat.st_mtime_ns]
    match known.get(str(path)):
        case [size, time, str(sha256)] if [size, time] == mark:
            return sha256
    sha256 = file_sha256(path)
    write_atomic(memory, json.dumps({**known, str(path): [*mark, sha256]}, indent=0).encode())
    return sha256
