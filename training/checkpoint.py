"""The parts of a base model, loaded from a diffusers folder or from a single file in the original layout."""

from __future__ import annotations

import json
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from training.base import Base
from training.blueprint import write_skeleton
from training.survey import TEXT, survey

if TYPE_CHECKING:
    import torch

_AGAIN = "Download or copy the model again, and check its size."


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A base model that can be loaded part by part: unet, vae, text_encoder."""

    base: Base
    folder: Path  # configurations and tokenizer; the weights too unless the base is a single file

    def config(self, part: str) -> dict[str, Any]:
        """The configuration of a part; empty when the model has no such part."""
        file = self.folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
        try:
            return dict(json.loads(file.read_text("utf-8"))) if file.is_file() else {}
        except ValueError:
            raise PrepError(f"{file} is not JSON.", _AGAIN) from None

    def load(self, part: str) -> Any:
        """The module of a part: frozen, float32, on the CPU, and with every one of its weights."""
        quiet()
        if self.base.path.is_dir():
            model = _from_folder(self.folder, part)
        else:
            model = _from_file(self.base.path, self.folder, part)
        model = model.float().eval().requires_grad_(False)
        for weight in (*model.parameters(), *model.buffers()):
            # Off the mapped file: at its odd addresses the same sums round otherwise than from another file.
            weight.data = weight.data.clone()
        return model

    def tokenizer(self) -> Any:
        from transformers import CLIPTokenizer

        quiet()
        try:
            return CLIPTokenizer.from_pretrained(self.folder / "tokenizer", local_files_only=True)
        except (OSError, ValueError) as error:
            raise PrepError(f"{self.folder} has no usable tokenizer: {_first_line(error)}", _AGAIN) from None


def open_base(base: Base, cache: Path) -> Checkpoint:
    """Make a base model ready to load; what it takes is written below `cache`.

    That is the whole mini base, and of a single file the configurations.
    """
    from training.mini import ensure_mini, mini_folder

    if base.path == mini_folder(cache):
        return Checkpoint(base, ensure_mini(cache))
    if base.path.is_dir():
        return Checkpoint(base, base.path)
    folder = cache / "bases" / base.sha256[:16]
    shapes = {name: tuple(value.shape) for name, value in read_tensors(base.path).items()}
    write_skeleton(folder, survey(shapes, base.name))
    return Checkpoint(base, folder)


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
    if part == "text_encoder":
        from transformers import CLIPTextConfig, CLIPTextModel

        return CLIPTextModel(CLIPTextConfig.from_pretrained(folder / part))
    cls = _class(part)
    return cls.from_config(cls.load_config(folder / part))


def published_name(part: str, name: str) -> str:
    """A weight's or module's name as files have it.

    transformers 5.6 took the level 'text_model' out of CLIP's text encoder; files keep it.
    """
    return f"text_model.{name.removeprefix('text_model.')}" if part == "text_encoder" else name


def quiet() -> None:
    """Keep the libraries from printing: the one progress bar is the driver's."""
    import diffusers.utils.logging
    import transformers.utils.logging

    for logging in (diffusers.utils.logging, transformers.utils.logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def _class(part: str) -> Any:
    import diffusers
    import transformers

    return {
        "unet": diffusers.UNet2DConditionModel,
        "vae": diffusers.AutoencoderKL,
        "text_encoder": transformers.CLIPTextModel,
    }[part]


def _from_folder(folder: Path, part: str) -> Any:
    from safetensors import SafetensorError

    wanted = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
    try:
        model, found = _class(part).from_pretrained(folder / part, **wanted)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise PrepError(f"{folder / part} cannot be loaded: {_first_line(error)}", _AGAIN) from None
    if found["missing_keys"]:
        raise PrepError(f"{folder / part} lacks the weight {min(found['missing_keys'])}.", _AGAIN)
    return model


def _from_file(file: Path, skeleton: Path, part: str) -> Any:
    tensors = read_tensors(file)
    if part == "text_encoder":
        # Not by diffusers, which passes over a missing weight in silence.
        model = empty_part(skeleton, part)
        given = {published_name(part, name.removeprefix(TEXT)): value for name, value in tensors.items()}
        names = {name: published_name(part, name) for name in model.state_dict()}
        missing = [name for name in names.values() if name not in given and "position_ids" not in name]
        model.load_state_dict({name: given[key] for name, key in names.items() if key in given}, strict=False)
    else:
        try:
            model = _class(part).from_single_file(tensors, config=str(skeleton), subfolder=part, local_files_only=True)
        except NotImplementedError:  # torch cannot move a weight that was never filled
            raise PrepError(f"{file.name} lacks weights of its {part}.", _AGAIN) from None
        missing = []
    if missing:
        raise PrepError(f"{file.name} lacks a weight of its {part}: {missing[0]}.", _AGAIN)
    return model


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".") + "."
