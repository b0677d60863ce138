"""Finds and loads control models: diffusers folders, and single files with diffusers' or CompVis' names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError, first_line
from pipeline.models.file_hashes import known_sha256
from pipeline.models.store import find_model
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]

MODEL_FILES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_ATTENTION = ("down_blocks.0.attentions.0", "down_blocks.1.attentions.0", "input_blocks.1.1", "input_blocks.4.1")
# Width of the text that the published models of a family are conditioned on.
_FAMILIES = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "Stable Diffusion XL"}
# Parts of names that only other models for the same purpose have.
_OTHER_MODELS = {
    "lora_controlnet": "a control LoRA",
    "lllite": "a ControlNet-LLLite model",
    "ip_adapter": "an IP-Adapter",
    "adapter.body": "a T2I-Adapter",
    "body.0.block1": "a T2I-Adapter",
    "task_embedding": "a ControlNet Union model",
    "transformer_blocks.0.attn.add_q_proj": "a control model for Stable Diffusion 3",
    "motion_modules": "a motion module",
    "model.diffusion_model.": "a base model",
}


@dataclass(frozen=True, slots=True)
class ControlFiles:
    """A control model on disk."""

    name: str  # hub id, or the name of the folder or file
    path: Path  # of the file with the weights

    def sha256(self) -> str:
        """The hash of its weights."""
        return known_sha256(self.path)


def find_control(text: str, workspace: Workspace) -> ControlFiles:
    """The control model that `text` names: a file, a diffusers folder, a hub id or a short name.

    PrepError says how to get one that is not on this machine.
    """
    path = workspace.resolve(text)
    if path.suffix.lower() in MODEL_FILES and not path.is_dir():
        if not path.is_file():
            raise PrepError(
                f"There is no control model {escape_control(str(path))}.",
                "Give a file, a folder or a hub id: --control canny=photo.png,model=lllyasviel/control_v11p_sd15_canny",
            )
        return ControlFiles(path.name, path)
    found = find_model(str(path) if path.is_dir() else text, workspace, (_WEIGHTS,))
    return ControlFiles(found.name, found.folder / _WEIGHTS)


def load_control(files: ControlFiles, unet: Any) -> Any:
    """The control model as a module like the U-Net, on the CPU in float32.

    `unet` is the base model's, for which it must be made; PrepError names the family that it is made for instead.
    """
    import torch
    from diffusers import ControlNetModel

    from training.models.loader import read_tensors
    from training.models.parts import quiet, read_json

    quiet()
    tensors = {name.removeprefix("control_model."): value for name, value in read_tensors(files.path).items()}
    _check_kind(tensors, files.name)
    _check_family(tensors, files.name, unet)
    config = read_json(files.path.parent / "config.json") if files.path.name == _WEIGHTS else {}
    order = config.get("controlnet_conditioning_channel_order", "rgb")
    with torch.device("meta"):  # its weights are replaced by those of the file
        model = ControlNetModel.from_unet(
            unet,
            controlnet_conditioning_channel_order=order,
            conditioning_embedding_out_channels=_hint_widths(tensors),
            load_weights_from_unet=False,
        )
    _fill(model, tensors, files.name)
    return model.eval().requires_grad_(False)


def _check_kind(tensors: Tensors, name: str) -> None:
    for sign, title in _OTHER_MODELS.items():
        if any(sign in key for key in tensors):
            raise PrepError(f"{escape_control(name)} is {title}, not a control model that prep loads.", _WANTED)
    if not any(key.startswith(("controlnet_down_blocks.", "zero_convs.")) for key in tensors):
        raise PrepError(f"{escape_control(name)} is not a control model.", _WANTED)


_WANTED = "Give a ControlNet for Stable Diffusion 1.x, 2.x or XL, such as lllyasviel/control_v11p_sd15_canny."


def _check_family(tensors: Tensors, name: str, unet: Any) -> None:
    """PrepError where the model is conditioned on text of another width than the base model."""
    keys = (f"{at}.transformer_blocks.0.attn2.to_k.weight" for at in _ATTENTION)
    width = next((tensors[key].shape[1] for key in keys if key in tensors), None)
    wanted = unet.config.cross_attention_dim
    if width is not None and width != wanted:
        titles = [_FAMILIES.get(one, f"models with text of width {one}") for one in (width, wanted)]
        raise PrepError(
            f"{escape_control(name)} is a control model for {titles[0]}, but the base model is {titles[1]}.",
            "Give a control model of the base model's family.",
        )


def _hint_widths(tensors: Tensors) -> tuple[int, ...]:
    """The output channels of the levels of the part that reads the map; two of its convolutions belong to each."""
    own = ["controlnet_cond_embedding.conv_in", *(f"controlnet_cond_embedding.blocks.{k}" for k in range(32))]
    original = [f"input_hint_block.{2 * k}" for k in range(32)]
    found = [tensors[f"{name}.weight"].shape[0] for name in own if f"{name}.weight" in tensors]
    # In the original code the last convolution is that to the U-Net's width.
    found = found or [tensors[f"{name}.weight"].shape[0] for name in original if f"{name}.weight" in tensors][:-1]
    return tuple(found[::2])


def _fill(model: Any, tensors: Tensors, name: str) -> None:
    """Load the weights, by diffusers' names or those of the original code; all of them must be there and fit."""
    diffusers = "controlnet_cond_embedding.conv_in.weight" in tensors
    wanted = {key: key if diffusers else original_name(key, model.config) for key in model.state_dict()}
    missing = [source for source in wanted.values() if source not in tensors]
    if missing:
        raise PrepError(f"{escape_control(name)} lacks the weight {missing[0]}.", "Copy the control model again.")
    try:
        # Copies: in the memory-mapped file weights are unaligned, and sums round differently from aligned ones.
        weights = {key: tensors[source].float().clone() for key, source in wanted.items()}
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise PrepError(
            f"{escape_control(name)} is not made for the base model: {first_line(error)}.",
            "Give a control model of the base model's family.",
        ) from None


def original_name(name: str, config: Any) -> str:
    """The name of a weight in files of the original code (https://github.com/lllyasviel/ControlNet).

    'controlnet_cond_embedding.blocks.0.weight' is 'input_hint_block.2.weight'; the rest is named as in a U-Net.
    """
    from training.models.ldm_checkpoint import unet_name

    part, _, rest = name.partition(".")
    if part == "controlnet_mid_block":
        return f"middle_block_out.0.{rest}"
    if part == "controlnet_down_blocks":
        number, _, kind = rest.partition(".")
        return f"zero_convs.{number}.0.{kind}"
    if part != "controlnet_cond_embedding":
        return unet_name(name, dict(config))
    layer, _, kind = rest.partition(".")
    blocks = 2 * (len(config["conditioning_embedding_out_channels"]) - 1)
    place = {"conv_in": 0, "conv_out": blocks + 1}.get(layer)
    if place is None:
        number, _, kind = kind.partition(".")
        place = int(number) + 1
    return f"input_hint_block.{2 * place}.{kind}"
