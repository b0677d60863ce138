"""Checks that a base model is complete and that its parts fit each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError

if TYPE_CHECKING:
    from training.models.family import Family, ModelConfigs

_COPY_AGAIN = "Copy the base model again."


def unet_of(checkpoint: ModelConfigs) -> dict[str, Any]:
    """The configuration of the model's U-Net; empty when its denoiser is another class."""
    config = checkpoint.config("unet")
    return config if config.get("_class_name", "UNet2DConditionModel") == "UNet2DConditionModel" else {}


def vae_scale_factor(checkpoint: ModelConfigs) -> int:
    """Pixels per latent pixel, each way: every level of the VAE but the last halves the image; 8 by default."""
    levels = checkpoint.config("vae").get("block_out_channels")
    return 2 ** (len(levels) - 1) if levels else 8


def native_resolution(checkpoint: ModelConfigs, family: Family) -> int:
    """The side in pixels of the square images that the denoiser was trained with; 0 where it is not known."""
    latents = checkpoint.config(family.denoiser).get("sample_size")
    return latents * vae_scale_factor(checkpoint) if isinstance(latents, int) else 0


def check_complete(family: Family, checkpoint: ModelConfigs, channels: int, optional: tuple[str, ...] = ()) -> None:
    """Raise PrepError when a part is missing, or the latents of the denoiser or the VAE do not have `channels`."""
    name = checkpoint.name
    for part in (family.denoiser, "vae", *family.encoders):
        if part not in optional and not checkpoint.config(part):
            raise PrepError(f"{name} is a {family.title} model without its {part}.", _COPY_AGAIN)
    inputs = checkpoint.config(family.denoiser).get("in_channels")
    if inputs != channels:
        kind = "an inpainting model" if channels == 4 and inputs == 9 else "not the plain model"
        raise PrepError(f"{name} takes {inputs} channels: {kind}.", "Use the model's plain version.")
    vae, own = checkpoint.config("vae"), checkpoint.own_vae()
    outputs = vae.get("latent_channels", 4)
    if outputs != channels:
        raise PrepError(
            f"The VAE makes latents of {outputs} channels; {name} takes {channels}.", "Use the VAE of the same family."
        )
    if (scale := vae.get("scaling_factor")) != (own_scale := own.get("scaling_factor")):
        raise PrepError(
            f"The VAE belongs to another family: its latents are scaled by {scale}, those of {name} by {own_scale}.",
            "Use the VAE of the same family.",
        )


def check_width(checkpoint: ModelConfigs, denoiser: object, encoders: object) -> None:
    """Raise PrepError when the denoiser takes text of another width than the encoders output."""
    if denoiser != encoders:
        raise PrepError(f"U-Net and text encoder of {checkpoint.name} do not belong together.", _COPY_AGAIN)
