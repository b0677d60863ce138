"""The parts of a Stable Diffusion 1.x model as facts: the configuration that belongs to a set of widths."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.workspace import write_atomic
from training.tokens import SIZE, tokenizer_files


@dataclass(frozen=True, slots=True)
class Blueprint:
    """The sizes in which models of this family differ; the defaults are Stable Diffusion 1.x itself."""

    unet: tuple[int, ...] = (320, 640, 1280, 1280)
    unet_layers: int = 2
    unet_heads: int = 8
    vae: tuple[int, ...] = (128, 256, 512, 512)
    vae_layers: int = 2
    vae_scale: float = 0.18215  # brings the latents to unit variance
    text: int = 768
    text_layers: int = 12
    prediction: str = "epsilon"

    def configs(self) -> dict[str, dict[str, Any]]:
        """The diffusers configuration of each part, by file name."""
        return {
            "model_index.json": _index(),
            "unet/config.json": self._unet(),
            "vae/config.json": self._vae(),
            "text_encoder/config.json": self._text(),
            "scheduler/scheduler_config.json": self._schedule(),
        }

    def _unet(self) -> dict[str, Any]:
        levels = len(self.unet)
        return {
            "_class_name": "UNet2DConditionModel",
            "sample_size": 64,
            "in_channels": 4,
            "out_channels": 4,
            "center_input_sample": False,
            "flip_sin_to_cos": True,
            "freq_shift": 0,
            # The coarsest level has no attention.
            "down_block_types": [*["CrossAttnDownBlock2D"] * (levels - 1), "DownBlock2D"],
            "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * (levels - 1)],
            "block_out_channels": list(self.unet),
            "layers_per_block": self.unet_layers,
            "downsample_padding": 1,
            "mid_block_scale_factor": 1,
            "act_fn": "silu",
            "norm_num_groups": math.gcd(32, *self.unet),
            "norm_eps": 1e-5,
            "cross_attention_dim": self.text,
            "attention_head_dim": self.unet_heads,  # diffusers reads it as the number of heads here
        }

    def _vae(self) -> dict[str, Any]:
        levels = len(self.vae)
        return {
            "_class_name": "AutoencoderKL",
            "sample_size": 512,
            "in_channels": 3,
            "out_channels": 3,
            "latent_channels": 4,
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
            "block_out_channels": list(self.vae),
            "layers_per_block": self.vae_layers,
            "act_fn": "silu",
            "norm_num_groups": math.gcd(32, *self.vae),
            "scaling_factor": self.vae_scale,
        }

    def _text(self) -> dict[str, Any]:
        return {
            "architectures": ["CLIPTextModel"],
            "model_type": "clip_text_model",
            "vocab_size": SIZE,
            "hidden_size": self.text,
            "intermediate_size": 4 * self.text,
            "num_hidden_layers": self.text_layers,
            "num_attention_heads": max(1, self.text // 64),  # CLIP's heads are 64 wide at every size
            "max_position_embeddings": 77,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
            "attention_dropout": 0.0,
            "projection_dim": self.text,
            "bos_token_id": SIZE - 2,
            "eos_token_id": SIZE - 1,
            "pad_token_id": SIZE - 1,
        }

    def _schedule(self) -> dict[str, Any]:
        return {
            "_class_name": "PNDMScheduler",
            "num_train_timesteps": 1000,
            "beta_schedule": "scaled_linear",
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "clip_sample": False,
            "prediction_type": self.prediction,
            "set_alpha_to_one": False,
            "skip_prk_steps": True,
            "steps_offset": 1,
        }


def _index() -> dict[str, Any]:
    return {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def write_skeleton(folder: Path, blueprint: Blueprint) -> None:
    """Write a diffusers folder that lacks only the weights: configurations and tokenizer."""
    for name, config in blueprint.configs().items():
        write_atomic(folder / name, json.dumps(config, indent=2, sort_keys=True).encode())
    for name, text in tokenizer_files().items():
        write_atomic(folder / "tokenizer" / name, text.encode("utf-8"))
