"""What model a single file holds, told by the names and shapes of its tensors."""

from __future__ import annotations

import re

from pipeline.errors import PrepError
from training.blueprint import Blueprint

Shapes = dict[str, tuple[int, ...]]

# Names that only other models have, most telling first.
_FOREIGN = {
    "lora_": "a LoRA, not a base model",
    "conditioner.embedders.": "a Stable Diffusion XL model",
    "cond_stage_model.model.": "a Stable Diffusion 2.x model",
    "joint_blocks.": "a Stable Diffusion 3 model",
    "double_blocks.": "a Flux model",
}
_UNET = "model.diffusion_model."
_VAE = "first_stage_model."
TEXT = "cond_stage_model.transformer."
_NEEDED = {
    "U-Net": f"{_UNET}input_blocks.0.0.weight",
    "VAE": f"{_VAE}encoder.conv_in.weight",
}
_LEVELS = 4  # of every Stable Diffusion 1.x U-Net and VAE


def survey(shapes: Shapes, file: str) -> Blueprint:
    """The blueprint of a Stable Diffusion 1.x checkpoint in the original layout.

    PrepError names the family when it is another one, or the part that is missing.
    """
    for sign, family in _FOREIGN.items():
        if any(sign in name for name in shapes):
            raise PrepError(f"{file} is {family}.", "prep trains Stable Diffusion 1.x for now.")
    text = next((shape for name, shape in shapes.items() if _is_tokens(name)), None)
    lacking = [part for part, name in _NEEDED.items() if name not in shapes] + ["text encoder"] * (text is None)
    if lacking or text is None:
        raise PrepError(
            f"{file} is not a whole Stable Diffusion 1.x checkpoint: it has no {lacking[0]}.",
            "Name a file that holds U-Net, VAE and text encoder, or a diffusers folder.",
        )
    if (channels := shapes[_NEEDED["U-Net"]][1]) != 4:
        raise PrepError(f"{file} takes {channels} channels: an inpainting model.", "Use the model's plain version.")
    blocks = _widths(shapes, _UNET + "output_blocks.{}.0.out_layers.3.weight")  # coarsest level first
    return Blueprint(
        unet=blocks[:: max(1, len(blocks) // _LEVELS)][::-1],
        unet_layers=len(blocks) // _LEVELS - 1,  # the way up has one more block per level
        vae=_widths(shapes, _VAE + "encoder.down.{}.block.0.conv1.weight"),
        vae_layers=len(_widths(shapes, _VAE + "encoder.down.0.block.{}.conv1.weight")),
        text=text[1],
        text_layers=len(
            {match[1] for name in shapes if (match := re.search(r"layers\.(\d+)\.self_attn\.q_proj", name))}
        ),
    )


def _is_tokens(name: str) -> bool:
    return name.startswith(TEXT) and name.endswith("token_embedding.weight")


def _widths(shapes: Shapes, pattern: str) -> tuple[int, ...]:
    """Output channels of the blocks numbered from 0 in a name."""
    found: list[int] = []
    while (name := pattern.format(len(found))) in shapes:
        found.append(shapes[name][0])
    return tuple(found)
