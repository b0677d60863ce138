"""Which model a single file holds, by the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.clip_bpe import SIZE
from pipeline.errors import PrepError
from training.models.architecture_config import ArchitectureConfig, LdmLayout, TextEncoderConfig
from training.models.families import single_file_layouts, titles

if TYPE_CHECKING:
    from training.models.family import Family

Shapes = dict[str, tuple[int, ...]]

# Parts of names that only other models have: what the file is, and what to do. More specific ones come first.
_OTHER_MODELS = {
    "lora_": ("a LoRA, not a base model", ""),
    "joint_blocks.": (
        "a Stable Diffusion 3 model in one file",
        "prep reads these as a diffusers folder, which contains the text encoders too.",
    ),
    "double_blocks.": ("a Flux model", ""),
    "conditioner.embedders.0.model.": ("a Stable Diffusion XL refiner", "Train on the base model."),
}
_UNET = "model.diffusion_model."
_VAE = "first_stage_model."
_NEEDED = {
    "U-Net": f"{_UNET}input_blocks.0.0.weight",
    "VAE": f"{_VAE}encoder.conv_in.weight",
}
_PREDICTIONS = {"v": "v_prediction", "v_prediction": "v_prediction", "epsilon": "epsilon"}


def detect_architecture(shapes: Shapes, file: str, prediction: str = "") -> ArchitectureConfig:
    """The architecture of a Stable Diffusion checkpoint in the layout of CompVis' latent-diffusion code.

    `prediction` is the prediction type in the file's metadata or settings; tensors named v_pred and ztsnr count too.
    PrepError names the model where it is another one, or the part that is missing.
    """
    for sign, (model, hint) in _OTHER_MODELS.items():
        if any(sign in name for name in shapes):
            raise PrepError(f"{file} is {model}.", hint or f"prep trains {titles()}.")
    layout = _complete_layout(shapes, file)
    if (channels := shapes[_NEEDED["U-Net"]][1]) != 4:
        raise PrepError(f"{file} takes {channels} channels: an inpainting model.", "Use the model's plain version.")
    published = layout.architecture
    levels = len(published.unet)
    blocks = _widths(shapes, _UNET + "output_blocks.{}.0.out_layers.3.weight")  # the coarsest level first
    per_level = max(1, len(blocks) // levels)
    return replace(
        published,
        unet=blocks[::per_level][::-1],
        unet_layers=per_level - 1,  # the upward path has one more block per level
        depths=tuple(_depth(shapes, (levels - 1 - level) * per_level) for level in range(levels)),
        vae=_widths(shapes, _VAE + "encoder.down.{}.block.0.conv1.weight"),
        vae_layers=len(_widths(shapes, _VAE + "encoder.down.0.block.{}.conv1.weight")),
        texts=tuple(
            _text_encoder(shapes, prefix, text, layout, file)
            for prefix, text in zip(layout.text_prefixes, published.texts, strict=True)
        ),
        prediction="v_prediction" if "v_pred" in shapes else _PREDICTIONS.get(prediction, layout.prediction),
        zero_snr="ztsnr" in shapes,
    )


def find_layout(names: Iterable[str]) -> tuple[Family, LdmLayout] | None:
    """The family to whose text encoders some of the names belong, and its layout."""
    known = list(names)
    for family, layout in single_file_layouts():
        if any(name.startswith(layout.text_prefixes) for name in known):
            return family, layout
    return None


def _complete_layout(shapes: Shapes, file: str) -> LdmLayout:
    """The layout of a checkpoint; PrepError when a part is missing."""
    found = find_layout(shapes)
    missing = [part for part, name in _NEEDED.items() if name not in shapes] + ["text encoder"] * (found is None)
    if found is None or missing:
        layouts = single_file_layouts()
        family = next((family for family, layout in layouts if layout.marker in shapes), (found or layouts[0])[0])
        raise PrepError(
            f"{file} is not a complete {family.title} checkpoint: it has no {missing[0]}.",
            "Use a file that contains U-Net, VAE and text encoder, or a diffusers folder.",
        )
    return found[1]


def _depth(shapes: Shapes, block: int) -> int:
    """The transformer blocks in an attention of the upward path."""
    prefix = f"{_UNET}output_blocks.{block}.1.transformer_blocks."
    return len({name.removeprefix(prefix).split(".")[0] for name in shapes if name.startswith(prefix)})


def _text_encoder(
    shapes: Shapes, prefix: str, published: TextEncoderConfig, layout: LdmLayout, file: str
) -> TextEncoderConfig:
    """The width and layers of the text encoder whose names begin with `prefix`."""
    inside = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    tables = [shape for name, shape in inside.items() if name.endswith("token_embedding.weight")]
    if other := next((shape[0] for shape in tables if shape[0] != SIZE), 0):
        raise PrepError(
            f"The text encoder of {file} has {other:,} tokens, not CLIP's {SIZE:,}: a single file does not hold the "
            "tokenizer that it needs.",
            "Give the diffusers folder of the model, which holds it.",
        )
    widths = (shape[1] for shape in tables)
    numbers = {int(found[1]) for name in inside if (found := re.search(r"(?:layers|resblocks)\.(\d+)\.", name))}
    layers = len(numbers) or published.layers
    if layout.unused_layer and layers != published.layers:
        layers -= 1  # diffusers' models leave it out
    projection = published.projection
    if projection and "text_projection" in inside:
        projection = inside["text_projection"][1]
    return replace(published, width=next(widths, published.width), layers=layers, projection=projection)


def _widths(shapes: Shapes, pattern: str) -> tuple[int, ...]:
    """The output channels of the blocks with the numbers 0, 1, ... in `pattern`."""
    widths: list[int] = []
    while (name := pattern.format(len(widths))) in shapes:
        widths.append(shapes[name][0])
    return tuple(widths)
