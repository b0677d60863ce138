"""The mini-painter's autoencoder: 64 x 64 pixels to 16 x 16 latents of four channels and back.

python -m sample_data.mini.autoencoder OUT
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.workspace import write_atomic
from sample_data.mini.scenes import CACHE, SIDE, TAUGHT, scenes
from sample_data.mini.training_loop import Course, practise
from training.export.tensor_file import write_tensors
from training.models.architecture_config import ArchitectureConfig

if TYPE_CHECKING:
    import numpy as np
    import torch

# One layer a level; 24 channels at full size, where most of the time goes.
SIZES = ArchitectureConfig(vae=(24, 32, 64), vae_layers=1)
FACTOR = 2 ** (len(SIZES.vae) - 1)  # pixels per latent, each way
_BATCH = 4  # many small steps teach more a second than few large ones
_LITTLE = -5.0  # logarithm of the variance of a latent's noise at first
_TIGHT = 1e-3  # how much a latent's distance from a normal distribution counts beside the pixels
_AT_ONCE = 100
_IMAGES = 6_000  # more teach it nothing more
_LED = 1_200
_GRAIN = 0.05  # noise on the latents that the decoder is sharpened with: painted ones are not exact either
_WHOLE = 0.1  # share of the steps, the last, that see whole images; before, a quarter costs a quarter
COURSE = Course(steps=3_000, rate=1e-3, warm=50, cool=0.5, keep=0.995)
AGAIN = replace(COURSE, steps=12_000, cool=0.6, seed=1)
SHARPENING = replace(COURSE, cool=0.7, seed=2)


def net() -> Any:
    """An AutoencoderKL as it is born, but with little noise in its latents, and branches that begin at nothing.

    So what enters reaches the end from the first step on.
    """
    import torch
    from diffusers import AutoencoderKL

    model = AutoencoderKL.from_config(config(1.0))
    for name, weight in model.named_parameters():
        if name.endswith(("conv2.weight", "to_out.0.weight")):
            torch.nn.init.zeros_(weight)
    with torch.no_grad():
        model.quant_conv.bias[4:] = _LITTLE
    return model


def config(scale: float) -> dict[str, Any]:
    """Its configuration; `scale` brings the latents to unit variance."""
    return replace(SIZES, vae_scale=scale).configs()["vae/config.json"] | {"sample_size": SIDE}


def teach(model: Any, images: np.ndarray, course: Course, file: Path | None = None, led: int = 0) -> None:
    """Teach the autoencoder on images (N, SIDE, SIDE, 3) uint8: their pixels, edges and colors, and calm latents.

    In the first `led` steps the latents are led towards colors, ever less.
    """
    import torch

    shown = torch.from_numpy(images).permute(0, 3, 1, 2)
    parts = round(course.steps * (1 - _WHOLE))
    model.to(memory_format=torch.channels_last).train()

    def loss(step: int, random: torch.Generator) -> Any:
        side = SIDE // 2 if step < parts else SIDE
        batch = (window(shown, side, random).float() / 127.5 - 1).to(memory_format=torch.channels_last)
        found = model.encode(batch).latent_dist
        noise = torch.randn(found.mean.shape, generator=random)
        made = model.decode(found.mean + found.std * noise).sample
        calm = 0.5 * (found.mean.square() + found.var - 1 - found.logvar).mean()
        off = made - batch
        lead = max(0.0, 1 - step / max(1, led)) * (found.mean[:, :3] - tones(batch)).square().mean()
        return off.abs().mean() + edges(off) / 2 + tints(off) + lead + _TIGHT * calm

    practise(model, loss, course, file)
    model.eval()


def sharpen(model: Any, images: np.ndarray, course: Course, file: Path | None = None) -> None:
    """Teach the decoder alone to show more of what is in the latents, which stay as they are."""
    import torch

    shown = torch.from_numpy(images).permute(0, 3, 1, 2)
    parts = round(course.steps * (1 - _WHOLE))
    model.to(memory_format=torch.channels_last).train()
    learner = torch.nn.ModuleDict({"post_quant_conv": model.post_quant_conv, "decoder": model.decoder})

    def loss(step: int, random: torch.Generator) -> Any:
        side = SIDE // 2 if step < parts else SIDE
        batch = (window(shown, side, random).float() / 127.5 - 1).to(memory_format=torch.channels_last)
        with torch.no_grad():
            found = model.encode(batch).latent_dist
        noise = torch.randn(found.mean.shape, generator=random)
        off = model.decode(found.mean + _GRAIN * noise).sample - batch
        return off.abs().mean() + edges(off) / 2 + tints(off) + off.square().mean()

    practise(learner, loss, course, file)
    model.eval()


def window(images: torch.Tensor, side: int, random: torch.Generator) -> torch.Tensor:
    """Some images (B, 3, H, W), and of all of them the same square of `side` pixels, somewhere."""
    import torch

    chosen = torch.randint(len(images), (_BATCH,), generator=random)
    top, left = torch.randint(images.shape[-1] - side + 1, (2,), generator=random).tolist()
    return images[chosen, :, top : top + side, left : left + side]


def tones(images: torch.Tensor) -> torch.Tensor:
    """A latent's mean grey and two colors (B, 3, h, w), each spread about as far as a latent should be.

    What the first three channels of the latents are held to at first: left alone, all four of them learn
    light and dark, and colors come a thousand steps later.
    """
    import torch

    red, green, blue = torch.nn.functional.avg_pool2d(images, FACTOR).unbind(1)
    return torch.stack([(red + green + blue) * 0.7, (red - blue) * 2.5, (green - (red + blue) / 2) * 4], 1)


def edges(difference: torch.Tensor) -> torch.Tensor:
    """How much images differ from pixel to pixel: what a blurred line gets wrong and a shifted tone does not."""
    down = difference[:, :, 1:] - difference[:, :, :-1]
    across = difference[:, :, :, 1:] - difference[:, :, :, :-1]
    return (down.abs().mean() + across.abs().mean()) / 2


def tints(difference: torch.Tensor) -> torch.Tensor:
    """How much images differ in color alone: a red scarf that turned grey is hardly wrong in its light."""
    red, green, blue = difference.unbind(1)
    return ((red - green).abs() + (blue - (red + green) / 2).abs()).mean() / 2


def latents(model: Any, images: np.ndarray) -> torch.Tensor:
    """The means of images' latents (N, 4, h, w), not scaled."""
    import torch

    found = []
    with torch.inference_mode():
        for at in range(0, len(images), _AT_ONCE):
            batch = torch.from_numpy(images[at : at + _AT_ONCE]).permute(0, 3, 1, 2).float() / 127.5 - 1
            found.append(model.encode(batch.to(memory_format=torch.channels_last)).latent_dist.mean.contiguous())
    return torch.cat(found)


def write(model: Any, scale: float, folder: Path) -> None:
    """Write the folder of a diffusers VAE, in half precision."""
    write_atomic(folder / "config.json", json.dumps(config(scale), indent=2, sort_keys=True).encode())
    tensors = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    write_tensors(folder / "diffusion_pytorch_model.safetensors", tensors, {"format": "pt"})


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--cache", default=CACHE, type=click.Path(path_type=Path), help="Folder of painted scenes and of the run."
)
@click.option("--steps", default=COURSE.steps, help="Steps of the first course.")
@click.option("--again", default=AGAIN.steps, help="Steps of the second.")
@click.option(
    "--sharpening",
    default=SHARPENING.steps,
    help="Steps of the decoder alone, which may be taught while others use the latents.",
)
def main(out: Path, cache: Path, steps: int, again: int, sharpening: int) -> None:
    """Teach the autoencoder and write it to the folder OUT; a run that was broken off goes on."""
    import torch

    torch.manual_seed(0)
    seen = scenes(TAUGHT[:_IMAGES], cache).images
    model = net()
    teach(model, seen, replace(COURSE, steps=steps), cache / "autoencoder.safetensors", _LED)
    teach(model, seen, replace(AGAIN, steps=again), cache / "autoencoder-again.safetensors")
    sharpen(model, seen, replace(SHARPENING, steps=sharpening), cache / "decoder.safetensors")
    write(model, 1 / float(latents(model, seen[:1_000]).std()), out)


if __name__ == "__main__":
    main()
