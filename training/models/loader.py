"""The parts of a base model, loaded from a diffusers folder or from a single file in the original layout."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from training.models.architecture_config import write_config_folder
from training.models.base_model import PARTS, BaseFiles
from training.models.detect_architecture import TEXTS, detect_architecture
from training.models.openclip import from_open_clip

if TYPE_CHECKING:
    import torch

_AGAIN = "Download or copy the model again, and check its size."


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model that can be loaded part by part, under the names that PARTS has."""

    base: BaseFiles
    folder: Path  # configurations and tokenizer; the weights too unless the base is a single file

    def config(self, part: str) -> dict[str, Any]:
        """The configuration of a part; empty when the model has no such part."""
        other = self.base.vae_path if part == "vae" else None
        if other and other.is_dir():
            return _read_json(other / "config.json")
        return _read_json(self.folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json"))

    def own_vae(self) -> dict[str, Any]:
        """The configuration of the model's own VAE, also where another one is used."""
        return _read_json(self.folder / "vae" / "config.json")

    def load(self, part: str, dtype: torch.dtype | None = None) -> Any:
        """The module of a part: frozen, float32 if not told otherwise, on the CPU, with every one of its weights."""
        import torch

        quiet()
        if part == "vae" and self.base.vae_path:
            model = load_vae(self.base.vae_path, self.folder)
        elif self.base.path.is_dir():
            model = _from_folder(self.folder / part)
        else:
            model = _from_file(read_tensors(self.base.path), self.base.path.name, self.folder / part)
        model = model.to(dtype or torch.float32).eval().requires_grad_(False)
        for weight in (*model.parameters(), *model.buffers()):
            # Off the mapped file: at its odd addresses the same sums round otherwise than from another file.
            weight.data = weight.data.clone()
        return model

    def encoders(self) -> list[str]:
        """The parts that are text encoders."""
        return [part for part in PARTS if part.startswith("text_encoder") and self.config(part)]

    def tokenizers(self) -> dict[str, Any]:
        """The tokenizer of each text encoder, by the encoder's name."""
        quiet()
        return {part: _tokenizer(self.folder / part.replace("text_encoder", "tokenizer")) for part in self.encoders()}


def open_base_model(base: BaseFiles, cache: Path) -> BaseModel:
    """Make a base model ready to load; what it takes is written below `cache`.

    That is the whole mini base, and of a single file the configurations.
    """
    from training.models.mini import ensure_mini, mini_folder

    if base.path == mini_folder(cache):
        return BaseModel(base, ensure_mini(cache))
    if base.path.is_dir():
        return BaseModel(base, base.path)
    folder = cache / "bases" / base.sha256[:16]
    shapes = {name: tuple(value.shape) for name, value in read_tensors(base.path).items()}
    write_config_folder(folder, detect_architecture(shapes, base.name, _said_prediction(base.path)))
    return BaseModel(base, folder)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors or .ckpt file; nothing in either is ever executed."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    # What torch and safetensors are seen to raise on broken files.
    broken = (SafetensorError, RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError)
    try:
        if path.suffix.lower() == ".safetensors":
            return dict(load_file(path))
        if not zipfile.is_zipfile(path):
            raise PrepError(f"{path} is not a checkpoint as torch has written them since 2020.", _AGAIN)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise PrepError(
            f"{path} holds something other than tensors; prep runs no code out of model files.",
            "Use the model's .safetensors file.",
        ) from None
    except broken as error:
        raise PrepError(f"{path} is not a whole file of tensors: {_first_line(error)}", _AGAIN) from None
    while isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise PrepError(f"{path} holds no model.", _AGAIN)
    return {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}


def empty_part(folder: Path, part: str) -> Any:
    """A part as its configuration describes it, with whatever weights it is born with."""
    return _empty(folder / part)


def _empty(folder: Path) -> Any:
    cls = _class(folder)
    if folder.name.startswith("text_encoder"):
        return cls(cls.config_class.from_pretrained(folder))
    return cls.from_config(cls.load_config(folder))


def published_name(part: str, name: str) -> str:
    """A weight's or module's name as files have it.

    transformers 5.6 took the level 'text_model' out of CLIP's text encoder; files keep it.
    """
    if part not in ("text_encoder", "text_encoder_2") or name.startswith(("text_model.", "text_projection.")):
        return name
    return f"text_model.{name}"


def quiet() -> None:
    """Keep the libraries from printing: the one progress bar is the driver's."""
    import diffusers.utils.logging
    import transformers.utils.logging

    for logging in (diffusers.utils.logging, transformers.utils.logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text("utf-8"))) if file.is_file() else {}
    except ValueError:
        raise PrepError(f"{file} is not JSON.", _AGAIN) from None


def _class(folder: Path) -> Any:
    """The class that holds a part, which its configuration names."""
    import diffusers
    import transformers

    config = _read_json(folder / "config.json")
    name = str(config.get("_class_name") or (config.get("architectures") or ["nothing"])[0])
    # Without a class name, as in files from before there were any, each part is what it was then.
    name = (
        {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}.get(folder.name, name) if name == "nothing" else name
    )
    home = {"diffusers": diffusers, "transformers": transformers}.get(_CLASSES.get(name, ""))
    if home is None:
        raise PrepError(f"{folder} is of the class {name}, which prep does not load.", "Use the model's plain version.")
    return getattr(home, name)


_CLASSES = {
    "UNet2DConditionModel": "diffusers",
    "SD3Transformer2DModel": "diffusers",
    "AutoencoderKL": "diffusers",
    "CLIPTextModel": "transformers",
    "CLIPTextModelWithProjection": "transformers",
    "T5EncoderModel": "transformers",
}


def _tokenizer(folder: Path) -> Any:
    import transformers

    # The only T5 is the third; AutoTokenizer would ask for a config.json that tokenizer folders lack.
    cls = transformers.T5Tokenizer if folder.name == "tokenizer_3" else transformers.CLIPTokenizer
    try:
        return cls.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise PrepError(f"{folder} holds no usable tokenizer: {_first_line(error)}", _AGAIN) from None


def _said_prediction(file: Path) -> str:
    """What a single file's metadata calls the prediction, or the settings in NAME.yaml beside it; else nothing."""
    from safetensors import safe_open

    if file.suffix.lower() == ".safetensors":
        with safe_open(file, "pt") as opened:
            if said := (opened.metadata() or {}).get("modelspec.prediction_type"):
                return str(said)
    settings = file.with_suffix(".yaml")
    found = (
        re.search(r"parameterization:\s*[\"']?(v|eps)\b", settings.read_text("utf-8")) if settings.is_file() else None
    )
    return {"v": "v_prediction", "eps": "epsilon"}[found[1]] if found else ""


def _from_folder(folder: Path) -> Any:
    from safetensors import SafetensorError

    wanted = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
    try:
        model, found = _class(folder).from_pretrained(folder, **wanted)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise PrepError(f"{folder} cannot be loaded: {_first_line(error)}", _AGAIN) from None
    if found["missing_keys"]:
        raise PrepError(f"{folder} lacks the weight {min(found['missing_keys'])}.", _AGAIN)
    return model


def _from_file(tensors: dict[str, torch.Tensor], file: str, skeleton: Path) -> Any:
    part = skeleton.name
    if part.startswith("text_encoder"):
        return _text_from_file(tensors, file, skeleton)
    wanted = {"config": str(skeleton.parent), "subfolder": part, "local_files_only": True}
    try:
        return _class(skeleton).from_single_file(tensors, **wanted)
    except NotImplementedError:  # torch cannot move a weight that was never filled
        raise PrepError(f"{file} lacks weights of its {part}.", _AGAIN) from None


def _text_from_file(tensors: dict[str, torch.Tensor], file: str, skeleton: Path) -> Any:
    """A text encoder; not by diffusers, which passes over a missing weight in silence."""
    model, part = _empty(skeleton), skeleton.name
    starts = next(starts for starts in TEXTS.values() if any(name.startswith(starts) for name in tensors))
    start = starts[part == "text_encoder_2"]
    inside = {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
    if start.endswith("model."):
        inside = from_open_clip(inside)
    given = {published_name(part, name): value for name, value in inside.items()}
    names = {name: published_name(part, name) for name in model.state_dict()}
    missing = [name for name in names.values() if name not in given and "position_ids" not in name]
    if missing:
        raise PrepError(f"{file} lacks a weight of its {part}: {missing[0]}.", _AGAIN)
    model.load_state_dict({name: given[key] for name, key in names.items() if key in given}, strict=False)
    return model


def load_vae(path: Path, skeleton: Path) -> Any:
    """Another VAE than the base model's own, from its folder or a single file in either layout.

    A single file has no configuration, so it must be of the shape of the base model's own.
    """
    if path.is_dir():
        return _from_folder(path)
    tensors = read_tensors(path)
    model = _empty(skeleton / "vae")
    try:
        if "encoder.down_blocks.0.resnets.0.conv1.weight" in tensors:
            model.load_state_dict(tensors)
            return model
        return _from_file(tensors, path.name, skeleton / "vae")
    except (RuntimeError, ValueError) as error:
        raise PrepError(
            f"{path.name} is not a VAE of the base model's shape: {_first_line(error)}",
            "Give a VAE of the same family, or its diffusers folder.",
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".") + "."
