"""mini-diffusion: train a text encoder on the world's tags, then a U-Net that is conditioned on it.

python -m sample_data.mini.diffusion OUT --vae VAE
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sample_data.mini import text_encoder
from sample_data.mini.autoencoder import encode_images
from sample_data.mini.diffusion_model import initialize, write_configs, write_weights
from sample_data.mini.prompts import MAX_TOKENS, caption
from sample_data.mini.scenes import CACHE, TRAINING_SCENES, Scenes, load_scenes
from sample_data.mini.training_loop import TrainingSchedule, load_ema, train_model
from training.export.tensor_file import write_tensors

if TYPE_CHECKING:
    import torch

_BATCH = 16
_PROBES = 8  # images whose latents tell whether cached latents are of this encoder
_TIMESTEPS = 1_000
_MIN_SNR_GAMMA = 5.0  # min-SNR weighting, https://arxiv.org/abs/2303.09556
SCHEDULE = TrainingSchedule(steps=12_000, learning_rate=1.5e-3, warmup=300, decay_share=0.2, ema_decay=0.999)


@dataclass(frozen=True, slots=True)
class LatentScenes:
    """Training data of the U-Net: latents of unit variance, with the scenes' tags."""

    latents: torch.Tensor  # (N, 4, h, w)
    scenes: Scenes

    @classmethod
    def encode(cls, scenes: Scenes, folder: Path, file: Path | None = None) -> LatentScenes:
        """Encode scenes with the VAE of a model folder; the latents are cached in `file`."""
        import torch
        from diffusers import AutoencoderKL
        from safetensors.torch import load_file

        vae = AutoencoderKL.from_pretrained(folder / "vae").float().eval()
        vae.to(memory_format=torch.channels_last)
        probe = encode_images(vae, scenes.images[:_PROBES])
        cached = load_file(file)["latents"] if file and file.is_file() else probe
        # A retrained decoder leaves the latents as they were; those of another encoder are computed again.
        if len(cached) != len(scenes.images) or not torch.allclose(cached[:_PROBES], probe, atol=1e-3):
            cached = encode_images(vae, scenes.images)
            if file:
                write_tensors(file, {"latents": cached}, {})
        return cls(cached * vae.config.scaling_factor, scenes)


def train_unet(
    model: Any, data: LatentScenes, folder: Path, schedule: TrainingSchedule, checkpoint: Path | None = None
) -> None:
    """Train the U-Net to predict the noise in noisy latents, conditioned on captions of the image's tags."""
    import torch
    from diffusers import DDPMScheduler
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    alphas_cumprod = DDPMScheduler.from_pretrained(folder / "scheduler").alphas_cumprod
    snr = alphas_cumprod / (1 - alphas_cumprod)
    loss_weights = snr.clamp(max=_MIN_SNR_GAMMA) / snr
    model.to(memory_format=torch.channels_last).train()
    model["text_encoder"].requires_grad_(False).eval()

    def loss(step: int, generator: torch.Generator) -> Any:
        chosen = torch.randint(len(data.latents), (_BATCH,), generator=generator)
        rng = random.Random(f"{schedule.seed} {step}")
        captions = [caption(data.scenes.tag_names(int(at)), rng) for at in chosen]
        tokens = tokenizer(captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt")
        with torch.no_grad():
            text = model["text_encoder"](tokens.input_ids).last_hidden_state
        # Stratified timesteps, spread over all in every batch: the loss varies less.
        positions = (torch.arange(_BATCH) + torch.rand(_BATCH, generator=generator)) / _BATCH
        timesteps = (positions * _TIMESTEPS).long()
        clean = data.latents[chosen]
        noise = torch.randn(clean.shape, generator=generator)
        alpha = alphas_cumprod[timesteps][:, None, None, None]
        noisy = (alpha.sqrt() * clean + (1 - alpha).sqrt() * noise).to(memory_format=torch.channels_last)
        prediction = model["unet"](noisy, timesteps, encoder_hidden_states=text, return_dict=False)[0]
        return ((prediction - noise).square().mean((1, 2, 3)) * loss_weights[timesteps]).mean()

    train_model(model["unet"], loss, schedule, checkpoint)
    model.eval()


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--vae", type=click.Path(path_type=Path, exists=True), required=True, help="Folder of the trained autoencoder."
)
@click.option(
    "--cache", default=CACHE, type=click.Path(path_type=Path), help="Folder of rendered scenes and checkpoints."
)
@click.option(
    "--text-encoder-steps",
    default=text_encoder.SCHEDULE.steps,
    help="Training steps of the text encoder, which is trained first.",
)
@click.option("--steps", default=SCHEDULE.steps, help="Training steps of the U-Net.")
@click.option("--export", is_flag=True, help="Write the EMA weights of an unfinished run without training on.")
def main(out: Path, vae: Path, cache: Path, text_encoder_steps: int, steps: int, export: bool) -> None:
    """Train mini-diffusion and write it to the folder OUT as a diffusers model; an interrupted run is resumed."""
    from transformers import CLIPTokenizer

    write_configs(out, vae)
    model, file = initialize(out), cache / "diffusion.safetensors"
    scenes = load_scenes(TRAINING_SCENES, cache)
    tokenizer = CLIPTokenizer.from_pretrained(out / "tokenizer")
    text_encoder.train_text_encoder(
        model["text_encoder"],
        tokenizer,
        scenes,
        replace(text_encoder.SCHEDULE, steps=text_encoder_steps),
        cache / "text-encoder.safetensors",
    )
    if export:
        load_ema(model["unet"], file)
    else:
        data = LatentScenes.encode(scenes, out, cache / "latents.safetensors")
        train_unet(model, data, out, replace(SCHEDULE, steps=steps), file)
    write_weights(model, out)


if __name__ == "__main__":
    main()
