"""Loads the parts of a base model from a diffusers folder or from a single file in the latent-diffusion layout."""

from __future__ import annotations

import pickle
import re
import shlex
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError, first_line
from training.models.architecture_config import write_config_folder
from training.models.base_model import BaseFiles
from training.models.detect_architecture import detect_architecture, find_layout
from training.models.families import base_parts, detect_family
from training.models.mini import ensure_mini, mini_folder
from training.models.openclip import from_open_clip
from training.models.parts import COPY_AGAIN, empty_part, part_class, published_name, quiet, read_json

if TYPE_CHECKING:
    import torch


USE_FOLDER = "Give the model as a diffusers folder, which says how its parts are made."


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model that is loaded part by part."""

    base: BaseFiles
    folder: Path  # of configurations and tokenizers, and of the weights unless the base model is a single file

    @property
    def name(self) -> str:
        return self.base.name

    def config(self, part: str) -> dict[str, Any]:
        """The configuration of a part; empty when the model has no such part."""
        vae = self.base.vae_path if part == "vae" else None
        if vae and vae.is_dir():
            return read_json(vae / "config.json")
        return read_json(self.folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json"))

    def own_vae(self) -> dict[str, Any]:
        """The configuration of the model's own VAE, also where --vae replaces it."""
        return read_json(self.folder / "vae" / "config.json")

    def load(self, part: str, dtype: torch.dtype | None = None, copy: bool = True) -> Any:
        """The module of a part: frozen, on the CPU, in float32 or `dtype`. PrepError when a weight is missing.

        Without `copy`, weights may stay in the memory-mapped file, which takes half the memory while it is loaded.
        """
        import torch

        quiet()
        if part == "vae" and self.base.vae_path:
            model = load_vae(self.base.vae_path, self.folder)
        elif self.base.path.is_dir():
            model = _from_folder(self.folder / part, part)
        else:
            model = _from_file(read_tensors(self.base.path), self.base.path.name, self.folder, part)
        model = model.to(dtype or torch.float32).eval().requires_grad_(False)
        for weight in (*model.parameters(), *model.buffers()) if copy else ():
            # A copy: in the memory-mapped file weights are unaligned, and sums round differently from aligned ones.
            weight.data = weight.data.clone()
        return model

    def encoders(self) -> list[str]:
        """The parts that are text encoders."""
        return [name for name, part in base_parts().items() if part.tokenizer and self.config(name)]

    def tokenizers(self) -> dict[str, Any]:
        """The tokenizer of each text encoder, by the encoder's name."""
        quiet()
        parts = detect_family(self).parts
        return {
            name: _tokenizer(self.folder / name.replace("text_encoder", "tokenizer"), parts[name].tokenizer)
            for name in self.encoders()
        }


def open_base_model(base: BaseFiles, cache: Path) -> BaseModel:
    """Make a base model ready to load. The mini base model, and the configurations of a single file, go to `cache`."""
    if base.path == mini_folder(cache):
        return BaseModel(base, ensure_mini(cache))
    if base.path.is_dir():
        return BaseModel(base, base.path)
    folder = cache / "bases" / base.sha256[:16]
    shapes = {name: tuple(value.shape) for name, value in read_tensors(base.path).items()}
    try:
        architecture = detect_architecture(shapes, base.name, _prediction_type(base.path))
    except PrepError as error:
        beside = base.path.with_suffix("")  # where prep train --method dreambooth writes the model as a folder, too
        if not (beside / "model_index.json").is_file():
            raise
        raise PrepError(error.wrong, f"The folder beside it is complete: --base {shlex.quote(str(beside))}") from None
    write_config_folder(folder, architecture)
    return BaseModel(base, folder)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors or .ckpt file; nothing in either is ever executed."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    # What torch and safetensors raise for damaged files.
    damaged = (SafetensorError, RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError)
    try:
        if path.suffix.lower() == ".safetensors":
            return dict(load_file(path))
        if not zipfile.is_zipfile(path):
            raise PrepError(
                f"{path} is not a checkpoint in the zip format that torch has written since 2020.", COPY_AGAIN
            )
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise PrepError(
            f"{path} contains something other than tensors; prep runs no code from model files.",
            "Use the model's .safetensors file.",
        ) from None
    except damaged as error:
        raise PrepError(f"{path} is damaged: {first_line(error)}.", COPY_AGAIN) from None
    while isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise PrepError(f"{path} contains no model.", COPY_AGAIN)
    return {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}


def _tokenizer(folder: Path, cls: str) -> Any:
    import transformers

    try:
        # Not by AutoTokenizer, which needs a config.json that tokenizer folders lack.
        return getattr(transformers, cls).from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise PrepError(f"{folder} contains no usable tokenizer: {first_line(error)}.", COPY_AGAIN) from None


def _prediction_type(file: Path) -> str:
    """The prediction type in a single file's metadata, or in the settings NAME.yaml next to it; empty without."""
    from safetensors import safe_open

    if file.suffix.lower() == ".safetensors":
        with safe_open(file, "pt") as opened:
            if prediction := (opened.metadata() or {}).get("modelspec.prediction_type"):
                return str(prediction)
    settings = file.with_suffix(".yaml")
    if not settings.is_file():
        return ""
    found = re.search(r"parameterization:\s*[\"']?(v|eps)\b", settings.read_text("utf-8"))
    return {"v": "v_prediction", "eps": "epsilon"}[found[1]] if found else ""


def _from_folder(folder: Path, part: str) -> Any:
    from safetensors import SafetensorError

    options = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
    try:
        model, report = part_class(folder, part).from_pretrained(folder, **options)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise PrepError(f"{folder} cannot be loaded: {first_line(error)}.", COPY_AGAIN) from None
    if report["missing_keys"]:
        raise PrepError(f"{folder} lacks the weight {min(report['missing_keys'])}.", COPY_AGAIN)
    return model


def _from_file(tensors: dict[str, torch.Tensor], file: str, folder: Path, part: str) -> Any:
    """A part from the tensors of a single file; `folder` contains the configurations."""
    if base_parts()[part].tokenizer:
        return _text_encoder_from_file(tensors, file, folder, part)
    options = {"config": str(folder), "subfolder": part, "local_files_only": True}
    try:
        return part_class(folder / part, part).from_single_file(tensors, **options)
    except NotImplementedError:  # torch cannot move a weight that was never filled
        raise PrepError(f"{file} lacks weights of its {part}.", COPY_AGAIN) from None
    except (RuntimeError, ValueError, KeyError) as error:
        raise PrepError(f"The {part} of {file} cannot be loaded: {first_line(error)}.", USE_FOLDER) from None


def _text_encoder_from_file(tensors: dict[str, torch.Tensor], file: str, folder: Path, part: str) -> Any:
    """A text encoder; not loaded by diffusers, which ignores missing weights without a message."""
    model = empty_part(folder, part)
    found = find_layout(tensors)
    assert found  # detect_architecture has read the same file
    family, layout = found
    prefix = layout.text_prefixes[family.encoders.index(part)]
    inside = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    if prefix.endswith("model."):
        inside = from_open_clip(inside)
    weights = {published_name(part, name): value for name, value in inside.items()}
    names = {name: published_name(part, name) for name in model.state_dict()}
    missing = [name for name in names.values() if name not in weights and "position_ids" not in name]
    if missing:
        raise PrepError(f"{file} lacks a weight of its {part}: {missing[0]}.", COPY_AGAIN)
    sizes = {names[name]: value.shape for name, value in model.state_dict().items()}
    if other := next((name for name, size in sizes.items() if name in weights and weights[name].shape != size), ""):
        raise PrepError(f"{file} has another {part} than its family: {other} has another size.", USE_FOLDER)
    model.load_state_dict({name: weights[key] for name, key in names.items() if key in weights}, strict=False)
    return model


def load_vae(path: Path, folder: Path) -> Any:
    """A VAE from its diffusers folder, or from a single file in diffusers' or the latent-diffusion layout.

    A single file has no configuration, so it must have the shape of the base model's VAE, whose configuration is in
    `folder`; PrepError otherwise.
    """
    if path.is_dir():
        return _from_folder(path, "vae")
    tensors = read_tensors(path)
    model = empty_part(folder, "vae")
    try:
        if "encoder.down_blocks.0.resnets.0.conv1.weight" in tensors:
            model.load_state_dict(tensors)
            return model
        return _from_file(tensors, path.name, folder, "vae")
    except (RuntimeError, ValueError) as error:
        raise PrepError(
            f"{path.name} is not a VAE of the base model's shape: {first_line(error)}.",
            "Give a VAE of the same family, or its diffusers folder.",
        ) from None
