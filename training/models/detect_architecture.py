"""What model a single file holds, told by the names and shapes of its tensors."""

from __future__ import annotations

import re
from dataclasses import replace

from pipeline.errors import PrepError
from training.models.architecture_config import PLANS, ArchitectureConfig, Kind, TextEncoderConfig

Shapes = dict[str, tuple[int, ...]]

# Names that only other models have, most telling first.
_FOREIGN = {
    "lora_": "a LoRA, not a base model",
    "joint_blocks.": "a Stable Diffusion 3 model in one file",
    "double_blocks.": "a Flux model",
    "conditioner.embedders.0.model.": "a Stable Diffusion XL refiner",
}
_MEND = {
    "joint_blocks.": "prep reads these as a diffusers folder, which holds the text encoders too.",
    "conditioner.embedders.0.model.": "Train on the base model.",
}
_UNET = "model.diffusion_model."
_VAE = "first_stage_model."
_NEEDED = {
    "U-Net": f"{_UNET}input_blocks.0.0.weight",
    "VAE": f"{_VAE}encoder.conv_in.weight",
}
# Where each family's text encoders begin, in the order of their parts; OpenCLIP's layout ends in 'model.'.
TEXTS: dict[Kind, tuple[str, ...]] = {
    "sdxl": ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."),
    "sd2": ("cond_stage_model.model.",),
    "sd1": ("cond_stage_model.transformer.",),
}
# What else tells the family: an embedding that only Stable Diffusion XL has, and how wide its text is.
_LABEL = f"{_UNET}label_emb.0.0.weight"
_PREDICTIONS = {"v": "v_prediction", "v_prediction": "v_prediction", "epsilon": "epsilon"}


def detect_architecture(shapes: Shapes, file: str, says: str = "") -> ArchitectureConfig:
    """The blueprint of a Stable Diffusion checkpoint in the original layout.

    `says` is what the file's metadata or its settings call the prediction; tensors named v_pred
    and ztsnr tell as well. Without either 1.x and XL predict epsilon; of 2.x it is unknown, as its
    models of both kinds have the same shapes. PrepError names the family when it is another one,
    or the part that is missing.
    """
    for sign, family in _FOREIGN.items():
        if any(sign in name for name in shapes):
            mend = _MEND.get(sign, "prep trains Stable Diffusion 1.x, 2.x, XL and 3.5.")
            raise PrepError(f"{file} is {family}.", mend)
    kind = next((kind for kind, starts in TEXTS.items() if any(name.startswith(starts) for name in shapes)), None)
    lacking = [part for part, name in _NEEDED.items() if name not in shapes] + ["text encoder"] * (kind is None)
    if lacking or kind is None:
        whole = PLANS["sdxl"].kind if _LABEL in shapes else kind
        title = {"sdxl": "Stable Diffusion XL", "sd2": "Stable Diffusion 2.x"}.get(whole or "", "Stable Diffusion 1.x")
        raise PrepError(
            f"{file} is not a whole {title} checkpoint: it has no {lacking[0]}.",
            "Name a file that holds U-Net, VAE and text encoder, or a diffusers folder.",
        )
    if (channels := shapes[_NEEDED["U-Net"]][1]) != 4:
        raise PrepError(f"{file} takes {channels} channels: an inpainting model.", "Use the model's plain version.")
    levels = len(PLANS[kind].unet)
    blocks = _widths(shapes, _UNET + "output_blocks.{}.0.out_layers.3.weight")  # coarsest level first
    each = max(1, len(blocks) // levels)
    marked = "v_pred" in shapes
    return replace(
        PLANS[kind],
        unet=blocks[::each][::-1],
        unet_layers=each - 1,  # the way up has one more block per level
        depths=tuple(_depth(shapes, (levels - 1 - level) * each) for level in range(levels)),
        vae=_widths(shapes, _VAE + "encoder.down.{}.block.0.conv1.weight"),
        vae_layers=len(_widths(shapes, _VAE + "encoder.down.0.block.{}.conv1.weight")),
        texts=tuple(_text(shapes, *pair) for pair in zip(TEXTS[kind], PLANS[kind].texts, strict=True)),
        prediction="v_prediction" if marked else _PREDICTIONS.get(says, "unknown" if kind == "sd2" else "epsilon"),
        zero_snr="ztsnr" in shapes,
    )


def _depth(shapes: Shapes, block: int) -> int:
    """Transformer blocks of one attention of the way up."""
    start = f"{_UNET}output_blocks.{block}.1.transformer_blocks."
    return len({name.removeprefix(start).split(".")[0] for name in shapes if name.startswith(start)})


def _text(shapes: Shapes, start: str, plan: TextEncoderConfig) -> TextEncoderConfig:
    """The width and layers of the text encoder whose names begin with `start`."""
    inside = {name.removeprefix(start): shape for name, shape in shapes.items() if name.startswith(start)}
    width = next((shape[1] for name, shape in inside.items() if name.endswith("token_embedding.weight")), plan.width)
    numbers = {int(found[1]) for name in inside if (found := re.search(r"(?:layers|resblocks)\.(\d+)\.", name))}
    layers = len(numbers) or plan.layers
    # Stable Diffusion 2.x was trained with the last layer but one; diffusers' models leave the last out.
    unused = start == TEXTS["sd2"][0] and layers != plan.layers
    projection = inside["text_projection"][1] if plan.projection and "text_projection" in inside else plan.projection
    return replace(plan, width=width, layers=layers - unused, projection=projection)


def _widths(shapes: Shapes, pattern: str) -> tuple[int, ...]:
    """Output channels of the blocks numbered from 0 in a name."""
    found: list[int] = []
    while (name := pattern.format(len(found))) in shapes:
        found.append(shapes[name][0])
    return tuple(found)
