"""Whether a base model is whole: every part there, and made for each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError

if TYPE_CHECKING:
    from training.models.family import Family
    from training.models.loader import BaseModel

_AGAIN = "Copy the base model anew."


def unet_of(checkpoint: BaseModel) -> dict[str, Any]:
    """The configuration of the model's U-Net; empty when its denoiser is something else."""
    config = checkpoint.config("unet")
    return config if config.get("_class_name", "UNet2DConditionModel") == "UNet2DConditionModel" else {}


def vae_scale_factor(checkpoint: BaseModel) -> int:
    """Pixels per latent, each way: every level of the VAE but the last halves the image; 8 where nothing is said."""
    levels = checkpoint.config("vae").get("block_out_channels")
    return 2 ** (len(levels) - 1) if levels else 8


def native_resolution(checkpoint: BaseModel, family: Family) -> int:
    """Pixels a side of the square images that the denoiser was made for; 0 where its configuration does not say."""
    latents = checkpoint.config(family.denoiser).get("sample_size")
    return latents * vae_scale_factor(checkpoint) if isinstance(latents, int) else 0


def check_complete(family: Family, checkpoint: BaseModel, channels: int, optional: tuple[str, ...] = ()) -> None:
    """Raise PrepError when a part is missing, or makes or takes other latents than `channels` deep."""
    name = checkpoint.base.name
    for part in (family.denoiser, "vae", *family.encoders):
        if part not in optional and not checkpoint.config(part):
            raise PrepError(f"{name} is a {family.title} model without its {part}.", _AGAIN)
    takes = checkpoint.config(family.denoiser).get("in_channels")
    if takes != channels:
        kind = "an inpainting model" if channels == 4 and takes == 9 else "not the plain model"
        raise PrepError(f"{name} takes {takes} channels: {kind}.", "Use the model's plain version.")
    vae, own = checkpoint.config("vae"), checkpoint.own_vae()
    makes = vae.get("latent_channels", 4)
    if makes != channels:
        raise PrepError(
            f"The VAE makes latents of {makes} channels; {name} takes {channels}.", "Use the VAE of the same family."
        )
    if (ours := vae.get("scaling_factor")) != (theirs := own.get("scaling_factor")):
        raise PrepError(
            f"The VAE is another family's: its latents are scaled by {ours}, those of {name} by {theirs}.",
            "Use the VAE of the same family.",
        )


def check_width(checkpoint: BaseModel, takes: object, makes: object) -> None:
    """Raise PrepError when the denoiser takes other text than the encoders make."""
    if takes != makes:
        raise PrepError(f"U-Net and text encoder of {checkpoint.base.name} do not belong together.", _AGAIN)
