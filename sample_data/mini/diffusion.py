"""The mini-painter: a text encoder that learns to read the world's tags, then a U-Net that learns to paint from them.

python -m sample_data.mini.diffusion OUT --vae VAE
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sample_data.mini import reading
from sample_data.mini.autoencoder import latents
from sample_data.mini.diffusion_model import born, write_frame, write_weights
from sample_data.mini.prompts import PLACES, caption
from sample_data.mini.scenes import CACHE, TAUGHT, Scenes, scenes
from sample_data.mini.training_loop import Course, load_average, practise
from training.export.tensor_file import write_tensors

if TYPE_CHECKING:
    import torch

_BATCH = 16
_PROBES = 8  # images that tell one encoder from another
_TIMES = 1_000
_MOST = 5.0  # of the ratio of signal to noise that counts: min-SNR, https://arxiv.org/abs/2303.09556
COURSE = Course(steps=12_000, rate=1.5e-3, warm=300, cool=0.2, keep=0.999)


@dataclass(frozen=True, slots=True)
class Lessons:
    """What the painter learns from: images as latents of unit variance, and what is in them."""

    latents: torch.Tensor  # (N, 4, h, w)
    seen: Scenes

    @classmethod
    def of(cls, seen: Scenes, folder: Path, file: Path | None = None) -> Lessons:
        """The scenes through the VAE of a model's folder; `file` keeps the latents for the next time."""
        import torch
        from diffusers import AutoencoderKL
        from safetensors.torch import load_file

        vae = AutoencoderKL.from_pretrained(folder / "vae").float().eval()
        vae.to(memory_format=torch.channels_last)
        probe = latents(vae, seen.images[:_PROBES])
        found = load_file(file)["latents"] if file and file.is_file() else probe
        # A sharper decoder leaves the latents as they were; those of another encoder are made anew.
        if len(found) != len(seen.images) or not torch.allclose(found[:_PROBES], probe, atol=1e-3):
            found = latents(vae, seen.images)
            if file:
                write_tensors(file, {"latents": found}, {})
        return cls(found * vae.config.scaling_factor, seen)


def teach(model: Any, lessons: Lessons, folder: Path, course: Course, file: Path | None = None) -> None:
    """Teach the U-Net to find the noise in noisy latents, told the image's tags as the text encoder reads them."""
    import torch
    from diffusers import DDPMScheduler
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    kept = DDPMScheduler.from_pretrained(folder / "scheduler").alphas_cumprod
    ratio = kept / (1 - kept)
    counts = ratio.clamp(max=_MOST) / ratio
    model.to(memory_format=torch.channels_last).train()
    model["text_encoder"].requires_grad_(False).eval()

    def loss(step: int, draw: torch.Generator) -> Any:
        chosen = torch.randint(len(lessons.latents), (_BATCH,), generator=draw)
        stream = random.Random(f"{course.seed} {step}")
        captions = [caption(lessons.seen.names(int(at)), stream) for at in chosen]
        tokens = tokenizer(captions, padding="max_length", max_length=PLACES, truncation=True, return_tensors="pt")
        with torch.no_grad():
            text = model["text_encoder"](tokens.input_ids).last_hidden_state
        # Spread over all times in every batch: the loss, and so the step, varies less.
        share = (torch.arange(_BATCH) + torch.rand(_BATCH, generator=draw)) / _BATCH
        time = (share * _TIMES).long()
        clean = lessons.latents[chosen]
        noise = torch.randn(clean.shape, generator=draw)
        keep = kept[time][:, None, None, None]
        noisy = (keep.sqrt() * clean + (1 - keep).sqrt() * noise).to(memory_format=torch.channels_last)
        found = model["unet"](noisy, time, encoder_hidden_states=text, return_dict=False)[0]
        return ((found - noise).square().mean((1, 2, 3)) * counts[time]).mean()

    practise(model["unet"], loss, course, file)
    model.eval()


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--vae", type=click.Path(path_type=Path, exists=True), required=True, help="Folder of the autoencoder.")
@click.option(
    "--cache", default=CACHE, type=click.Path(path_type=Path), help="Folder of painted scenes and of the run."
)
@click.option("--reading", "read", default=reading.COURSE.steps, help="Steps of the text encoder, which come first.")
@click.option("--steps", default=COURSE.steps, help="Steps of the U-Net.")
@click.option("--export", is_flag=True, help="Write what a run under way has learned so far, and teach no more.")
def main(out: Path, vae: Path, cache: Path, read: int, steps: int, export: bool) -> None:
    """Teach the mini-painter and write the whole model to the folder OUT; a run that was broken off goes on."""
    from transformers import CLIPTokenizer

    write_frame(out, vae)
    model, file = born(out), cache / "diffusion.safetensors"
    seen = scenes(TAUGHT, cache)
    tokenizer = CLIPTokenizer.from_pretrained(out / "tokenizer")
    reading.teach(
        model["text_encoder"], tokenizer, seen, replace(reading.COURSE, steps=read), cache / "reading.safetensors"
    )
    if export:
        load_average(model["unet"], file)
    else:
        lessons = Lessons.of(seen, out, cache / "latents.safetensors")
        teach(model, lessons, out, replace(COURSE, steps=steps), file)
    write_weights(model, out)


if __name__ == "__main__":
    main()
