"""The base model: which one the user means, where it lies, and what its weights hash to."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.models.file_hashes import known_sha256
from pipeline.models.store import find_model
from pipeline.workspace import Workspace

# The weight file of every part that a base model of some family has, in the order in which they are hashed.
PARTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "transformer": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
    "text_encoder_2": "model.safetensors",
    "text_encoder_3": "model.safetensors",
}
_NEEDED = ("vae", "text_encoder")
_SINGLE = (".safetensors", ".ckpt")
_HUB_ID = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w./-]+))?")
_PLAIN = "prep reads safetensors only: save the model again in that form, whole and not as a variant."


@dataclass(frozen=True, slots=True)
class BaseFiles:
    """A base model on disk: a diffusers folder, or one file with everything in it.

    The mini base is made when it is opened, but known before.
    """

    name: str  # mini, a hub id, or the name of the folder or file
    path: Path
    sha256: str  # of the file, or over the hashes of the folder's weight files
    vae: str  # hash of the VAE: what the latents depend on
    revision: str = ""  # the hub's commit
    vae_path: Path | None = None  # folder or file of a VAE used instead of the model's own


def find_base(text: str, workspace: Workspace) -> BaseFiles:
    """The base model that `text` names: 'mini', a diffusers folder, a single file, or a hub id.

    Paths are looked up in the workspace, then in the current folder. A hub id, which may end in
    '@revision', must have been pulled.
    """
    if text == "mini":
        from training.models.mini import SHA256, VAE_SHA256, mini_folder

        return BaseFiles("mini", mini_folder(workspace.cache), SHA256, VAE_SHA256)
    if path := _there(text, workspace):
        return _folder(path, path.resolve().name) if path.is_dir() else _single(path)
    if (hub := _HUB_ID.fullmatch(text)) and not text.startswith(".") and not text.endswith(_SINGLE):
        return _pulled(hub[1], hub[2] or "", workspace)
    raise PrepError(
        f"There is no base model {text!r}.",
        "Give a diffusers folder, a .safetensors or .ckpt file, a hub id such as owner/name, or 'mini'.",
    )


def with_vae(base: BaseFiles, text: str, workspace: Workspace) -> BaseFiles:
    """The same base model with the VAE that `text` names, a folder or a single file; its own when that is empty."""
    if not text:
        return base
    path = _there(text, workspace)
    if path is None:
        raise PrepError(f"There is no VAE {text!r}.", "Give a folder with its config.json, or a .safetensors file.")
    if path.is_file():
        return replace(base, vae=_single(path).sha256, vae_path=path)
    folder = path if (path / "config.json").is_file() else path / "vae"
    if not (folder / "config.json").is_file():
        raise PrepError(f"{path} is not the folder of a VAE: it has no config.json.", "Or give its .safetensors file.")
    return replace(base, vae=joined_sha256([known_sha256(file) for file in weight_files(folder)]), vae_path=folder)


def weight_files(folder: Path) -> list[Path]:
    """The weight file of a part's folder, or those that its index names; PrepError when one is not there."""
    found = next((name for name in dict.fromkeys(PARTS.values()) if (folder / name).is_file()), None)
    if found:
        return [folder / found]
    for name in dict.fromkeys(PARTS.values()):
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _listed(index)
    wanted = PARTS.get(folder.name, PARTS["vae"])
    raise PrepError(f"{folder} has no {wanted}.", _PLAIN)


def joined_sha256(hashes: list[str]) -> str:
    """One hash for a model of several weight files, from theirs in the order of PARTS; of one, that itself."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _there(text: str, workspace: Workspace) -> Path | None:
    """What lies at a path, in the workspace or else in the current folder."""
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # an unknown ~name
        return None
    return next((place / path for place in (workspace.root, Path.cwd()) if text and (place / path).exists()), None)


def _folder(path: Path, name: str, revision: str = "") -> BaseFiles:
    denoiser = "transformer" if (path / "transformer" / "config.json").is_file() else "unet"
    for part in (denoiser, *_NEEDED):
        if not (path / part / "config.json").is_file():
            raise PrepError(
                f"{path} is not a diffusers folder of a whole model: it has no {part}/config.json.",
                "Name the folder that holds model_index.json, or the single .safetensors file.",
            )
    parts = [part for part in PARTS if (path / part / "config.json").is_file()]
    hashes = {part: joined_sha256([known_sha256(file) for file in weight_files(path / part)]) for part in parts}
    return BaseFiles(name, path, joined_sha256(list(hashes.values())), hashes["vae"], revision)


def _listed(index: Path) -> list[Path]:
    """The files among which a part's weights are shared out."""
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PrepError(f"{index} is damaged.", "Copy the model anew.") from None
    for name in names:
        if Path(name).name != name or not (index.parent / name).is_file():
            raise PrepError(f"{index.parent} has no {Path(name).name}, which its index names.", "Copy the model anew.")
    return [index.parent / name for name in names]


def _single(path: Path) -> BaseFiles:
    if path.suffix.lower() not in _SINGLE:
        raise PrepError(f"{path.name} is not a model that prep reads.", "It reads .safetensors and .ckpt files.")
    sha256 = known_sha256(path)
    return BaseFiles(path.name, path, sha256, sha256)


def _pulled(hub: str, revision: str, workspace: Workspace) -> BaseFiles:
    found = find_model(hub, workspace, ("model_index.json",))
    if revision and not found.revision.startswith(revision):
        has = f"of the commit {found.revision[:12]}" if found.revision else "of an unknown commit"
        raise PrepError(
            f"{hub} is on this machine, but {has}, not {revision}.",
            f"Get the other one: prep models pull {hub} --revision {revision}",
        )
    return _folder(found.folder, hub, found.revision)
