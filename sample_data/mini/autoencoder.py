"""The autoencoder of mini-diffusion: 64 x 64 pixels to 16 x 16 latents of four channels and back.

python -m sample_data.mini.autoencoder OUT
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.workspace import write_atomic
from sample_data.mini.scenes import CACHE, SIDE, TRAINING_SCENES, load_scenes
from sample_data.mini.training_loop import TrainingSchedule, train_model
from training.export.tensor_file import write_tensors
from training.models.architecture_config import ArchitectureConfig

if TYPE_CHECKING:
    import numpy as np
    import torch

# One layer per level; only 24 channels at full size, where most of the time is spent.
SIZES = ArchitectureConfig(vae=(24, 32, 64), vae_layers=1)
FACTOR = 2 ** (len(SIZES.vae) - 1)  # pixels per latent, each way
_BATCH = 4  # many small steps learn more per second than few large ones
_INITIAL_LOGVAR = -5.0  # initial log variance of the latents
_KL_WEIGHT = 1e-3  # weight of the KL divergence relative to the pixel losses
_ENCODE_BATCH = 100
_IMAGES = 6_000  # more did not improve it
_GUIDED_STEPS = 1_200
_LATENT_NOISE = 0.05  # noise on the latents in decoder training: generated latents are not exact either
_FULL_IMAGE_SHARE = 0.1  # share of the steps, at the end, on full images; before, crops of a quarter cost a quarter
SCHEDULE = TrainingSchedule(steps=3_000, learning_rate=1e-3, warmup=50, decay_share=0.5, ema_decay=0.995)
SECOND_SCHEDULE = replace(SCHEDULE, steps=12_000, decay_share=0.6, seed=1)
DECODER_SCHEDULE = replace(SCHEDULE, decay_share=0.7, seed=2)


def build_autoencoder() -> Any:
    """A randomly initialized AutoencoderKL with little latent noise and residual branches that start at zero.

    So gradients reach all layers from the first step.
    """
    import torch
    from diffusers import AutoencoderKL

    model = AutoencoderKL.from_config(config(1.0))
    for name, weight in model.named_parameters():
        if name.endswith(("conv2.weight", "to_out.0.weight")):
            torch.nn.init.zeros_(weight)
    with torch.no_grad():
        model.quant_conv.bias[4:] = _INITIAL_LOGVAR
    return model


def config(scale: float) -> dict[str, Any]:
    """The VAE's configuration; `scale` is the scaling factor that gives latents unit variance."""
    return replace(SIZES, vae_scale=scale).configs()["vae/config.json"] | {"sample_size": SIDE}


def train_autoencoder(
    model: Any, images: np.ndarray, schedule: TrainingSchedule, checkpoint: Path | None = None, guided_steps: int = 0
) -> None:
    """Train the autoencoder on images (N, SIDE, SIDE, 3) uint8 with pixel, edge, color and KL losses.

    In the first `guided_steps` steps a fading loss draws three latent channels towards colors.
    """
    import torch

    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    crop_steps = round(schedule.steps * (1 - _FULL_IMAGE_SHARE))
    model.to(memory_format=torch.channels_last).train()

    def loss(step: int, random: torch.Generator) -> Any:
        side = SIDE // 2 if step < crop_steps else SIDE
        batch = (random_crops(pixels, side, random).float() / 127.5 - 1).to(memory_format=torch.channels_last)
        posterior = model.encode(batch).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=random)
        decoded = model.decode(posterior.mean + posterior.std * noise).sample
        kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
        difference = decoded - batch
        guide = (
            max(0.0, 1 - step / max(1, guided_steps)) * (posterior.mean[:, :3] - color_targets(batch)).square().mean()
        )
        return difference.abs().mean() + edge_loss(difference) / 2 + color_loss(difference) + guide + _KL_WEIGHT * kl

    train_model(model, loss, schedule, checkpoint)
    model.eval()


def train_decoder(model: Any, images: np.ndarray, schedule: TrainingSchedule, checkpoint: Path | None = None) -> None:
    """Train the decoder alone for sharper images; the latents stay as they are."""
    import torch

    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    crop_steps = round(schedule.steps * (1 - _FULL_IMAGE_SHARE))
    model.to(memory_format=torch.channels_last).train()
    decoder = torch.nn.ModuleDict({"post_quant_conv": model.post_quant_conv, "decoder": model.decoder})

    def loss(step: int, random: torch.Generator) -> Any:
        side = SIDE // 2 if step < crop_steps else SIDE
        batch = (random_crops(pixels, side, random).float() / 127.5 - 1).to(memory_format=torch.channels_last)
        with torch.no_grad():
            posterior = model.encode(batch).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=random)
        difference = model.decode(posterior.mean + _LATENT_NOISE * noise).sample - batch
        return difference.abs().mean() + edge_loss(difference) / 2 + color_loss(difference) + difference.square().mean()

    train_model(decoder, loss, schedule, checkpoint)
    model.eval()


def random_crops(images: torch.Tensor, side: int, random: torch.Generator) -> torch.Tensor:
    """A random batch of images (B, 3, H, W), all cropped to the same random square of `side` pixels."""
    import torch

    chosen = torch.randint(len(images), (_BATCH,), generator=random)
    top, left = torch.randint(images.shape[-1] - side + 1, (2,), generator=random).tolist()
    return images[chosen, :, top : top + side, left : left + side]


def color_targets(images: torch.Tensor) -> torch.Tensor:
    """Luminance and two color differences (B, 3, h, w), scaled to about unit variance.

    Targets of the first three latent channels at the start: without them all four channels learn
    luminance first, and colors come a thousand steps later.
    """
    import torch

    red, green, blue = torch.nn.functional.avg_pool2d(images, FACTOR).unbind(1)
    return torch.stack([(red + green + blue) * 0.7, (red - blue) * 2.5, (green - (red + blue) / 2) * 4], 1)


def edge_loss(difference: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of image gradients: large for blurred edges, zero for a shifted tone."""
    down = difference[:, :, 1:] - difference[:, :, :-1]
    across = difference[:, :, :, 1:] - difference[:, :, :, :-1]
    return (down.abs().mean() + across.abs().mean()) / 2


def color_loss(difference: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of colors without luminance, in which a scarf that lost its red is hardly wrong."""
    red, green, blue = difference.unbind(1)
    return ((red - green).abs() + (blue - (red + green) / 2).abs()).mean() / 2


def encode_images(model: Any, images: np.ndarray) -> torch.Tensor:
    """Latent means (N, 4, h, w) of images, not scaled."""
    import torch

    means = []
    with torch.inference_mode():
        for at in range(0, len(images), _ENCODE_BATCH):
            batch = torch.from_numpy(images[at : at + _ENCODE_BATCH]).permute(0, 3, 1, 2).float() / 127.5 - 1
            means.append(model.encode(batch.to(memory_format=torch.channels_last)).latent_dist.mean.contiguous())
    return torch.cat(means)


def write_autoencoder(model: Any, scale: float, folder: Path) -> None:
    """Write the VAE as a diffusers folder in float16."""
    write_atomic(folder / "config.json", json.dumps(config(scale), indent=2, sort_keys=True).encode())
    tensors = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    write_tensors(folder / "diffusion_pytorch_model.safetensors", tensors, {"format": "pt"})


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--cache", default=CACHE, type=click.Path(path_type=Path), help="Folder of rendered scenes and checkpoints."
)
@click.option("--steps", default=SCHEDULE.steps, help="Steps of the first training schedule.")
@click.option("--second-steps", default=SECOND_SCHEDULE.steps, help="Steps of the second training schedule.")
@click.option(
    "--decoder-steps",
    default=DECODER_SCHEDULE.steps,
    help="Steps of training the decoder alone; the latents no longer change, so the U-Net can be trained meanwhile.",
)
def main(out: Path, cache: Path, steps: int, second_steps: int, decoder_steps: int) -> None:
    """Train the autoencoder and write it to the folder OUT; an interrupted run is resumed."""
    import torch

    torch.manual_seed(0)
    images = load_scenes(TRAINING_SCENES[:_IMAGES], cache).images
    model = build_autoencoder()
    train_autoencoder(model, images, replace(SCHEDULE, steps=steps), cache / "autoencoder.safetensors", _GUIDED_STEPS)
    train_autoencoder(
        model, images, replace(SECOND_SCHEDULE, steps=second_steps), cache / "autoencoder-again.safetensors"
    )
    train_decoder(model, images, replace(DECODER_SCHEDULE, steps=decoder_steps), cache / "decoder.safetensors")
    write_autoencoder(model, 1 / float(encode_images(model, images[:1_000]).std()), out)


if __name__ == "__main__":
    main()
