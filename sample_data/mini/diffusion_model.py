"""The parts of mini-diffusion: a small Stable Diffusion 1.x as an ordinary diffusers folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.clip_bpe import END, START
from pipeline.workspace import write_atomic
from sample_data.mini import autoencoder
from sample_data.mini.prompts import write_tokenizer
from sample_data.mini.scenes import SIDE
from training.export.tensor_file import write_tensors
from training.models.architecture_config import ArchitectureConfig, TextEncoderConfig
from training.models.parts import published_name, quiet

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

# 16 x 16 latents: attention only from 8 x 8 down, where it is cheap; the widths are what a CPU can train in hours.
SIZES: ArchitectureConfig = replace(
    autoencoder.SIZES,
    unet=(40, 80, 128, 80),
    unet_layers=1,
    depths=(0, 1, 1, 0),
    texts=(TextEncoderConfig(128, 2),),
)
_FILES = {"unet": "diffusion_pytorch_model.safetensors", "text_encoder": "model.safetensors"}


def configs(tokens: dict[str, int]) -> dict[str, dict[str, Any]]:
    """The configurations by file name, all but the VAE's."""
    by_file = SIZES.configs()
    text = {"vocab_size": len(tokens), "bos_token_id": tokens[START], "eos_token_id": tokens[END]}
    by_file["text_encoder/config.json"] |= text | {"pad_token_id": tokens[END]}
    by_file["unet/config.json"] |= {"sample_size": SIDE // autoencoder.FACTOR}
    del by_file["vae/config.json"]
    return by_file


def write_configs(folder: Path, vae: Path) -> None:
    """Write configurations, tokenizer and a copy of the VAE: all but the weights of U-Net and text encoder."""
    for name, config in configs(write_tokenizer(folder / "tokenizer")).items():
        write_atomic(folder / name, json.dumps(config, indent=2, sort_keys=True).encode())
    if vae != folder / "vae":
        shutil.copytree(vae, folder / "vae", dirs_exist_ok=True)


def initialize(folder: Path) -> Any:
    """Randomly initialized U-Net and text encoder from a folder's configurations."""
    import torch
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet"))
    text = CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder"))
    return torch.nn.ModuleDict({"unet": unet, "text_encoder": text})


def write_weights(model: Any, folder: Path) -> None:
    """Write the weights of U-Net and text encoder in float16."""
    for part, file in _FILES.items():
        state = model[part].state_dict()
        tensors = {
            published_name(part, name): value.half() for name, value in state.items() if value.is_floating_point()
        }
        write_tensors(folder / part / file, tensors, {"format": "pt"})


def generate_images(folder: Path, prompts: list[str], scale: float = 4.0, steps: int = 25) -> Iterator[np.ndarray]:
    """An image (SIDE, SIDE, 3) uint8 for each prompt, sampled with DDIM; the seed is the prompt's number."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    quiet()
    pipeline = StableDiffusionPipeline.from_pretrained(folder).to(torch.float32)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.unet.to(memory_format=torch.channels_last)
    batch_size = 20
    for at in range(0, len(prompts), batch_size):
        batch = prompts[at : at + batch_size]
        seeds = [torch.Generator().manual_seed(at + number) for number in range(len(batch))]
        generated = pipeline(
            batch, num_inference_steps=steps, guidance_scale=scale, generator=seeds, output_type="np"
        ).images
        yield from (generated * 255).round().astype("uint8")
