"""The parts of a Stable Diffusion 1.x, 2.x or XL model as facts: the configurations that belong to a set of widths."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.clip_bpe import SIZE, tokenizer_files
from pipeline.workspace import write_atomic

Kind = Literal["sd1", "sd2", "sdxl"]
_PIPELINES = {"sd1": "StableDiffusionPipeline", "sd2": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}
_TIMES = 256  # numbers that Stable Diffusion XL is told each of its six sizes in


@dataclass(frozen=True, slots=True)
class TextEncoderConfig:
    """A CLIP text encoder; the defaults are that of Stable Diffusion 1.x."""

    width: int = 768
    layers: int = 12
    act: str = "quick_gelu"  # gelu: OpenCLIP's
    projection: int = 0  # width of the projected summary; 0: the encoder has no projection
    pad: str = "<|endoftext|>"  # '!' where the model was trained with zeros


@dataclass(frozen=True, slots=True)
class ArchitectureConfig:
    """The sizes in which models of these families differ; the defaults are Stable Diffusion 1.x itself."""

    kind: Kind = "sd1"
    unet: tuple[int, ...] = (320, 640, 1280, 1280)
    unet_layers: int = 2
    depths: tuple[int, ...] = (1, 1, 1, 0)  # of each level's transformers; 0: it has none
    unet_heads: int = 8  # of every attention; 0: as many as are 64 wide
    vae: tuple[int, ...] = (128, 256, 512, 512)
    vae_layers: int = 2
    vae_scale: float = 0.18215  # brings the latents to unit variance
    texts: tuple[TextEncoderConfig, ...] = (TextEncoderConfig(),)
    prediction: str = "epsilon"  # or v_prediction, or unknown
    zero_snr: bool = False

    def configs(self) -> dict[str, dict[str, Any]]:
        """The diffusers configuration of each part, by file name."""
        parts = {f"{part}/config.json": self._text(text) for part, text in zip(_ENCODERS, self.texts, strict=False)}
        return {
            "model_index.json": self._index(),
            "unet/config.json": self._unet(),
            "vae/config.json": self._vae(),
            "scheduler/scheduler_config.json": self._schedule(),
            **parts,
        }

    def _unet(self) -> dict[str, Any]:
        down = ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in self.depths]
        config = {
            "_class_name": "UNet2DConditionModel",
            "sample_size": 64,
            "in_channels": 4,
            "out_channels": 4,
            "center_input_sample": False,
            "flip_sin_to_cos": True,
            "freq_shift": 0,
            "down_block_types": down,
            "up_block_types": [name.replace("Down", "Up") for name in reversed(down)],
            "block_out_channels": list(self.unet),
            "layers_per_block": self.unet_layers,
            "downsample_padding": 1,
            "mid_block_scale_factor": 1,
            "act_fn": "silu",
            "norm_num_groups": math.gcd(32, *self.unet),
            "norm_eps": 1e-5,
            "cross_attention_dim": sum(text.width for text in self.texts),
            # diffusers reads it as the number of heads here
            "attention_head_dim": self.unet_heads or [max(1, width // 64) for width in self.unet],
        }
        if self.kind != "sd1":
            config["use_linear_projection"] = True
        if self.kind == "sd2" and self.prediction == "v_prediction":
            config["sample_size"] = 96  # latents of 768 pixels
        if self.kind == "sdxl":
            config |= {
                "sample_size": 128,
                "transformer_layers_per_block": [max(1, depth) for depth in self.depths],
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": _TIMES,
                "projection_class_embeddings_input_dim": self.texts[-1].projection + 6 * _TIMES,
            }
        return config

    def _vae(self) -> dict[str, Any]:
        levels = len(self.vae)
        config = {
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
        return config | ({"sample_size": 1024, "force_upcast": True} if self.kind == "sdxl" else {})

    def _text(self, text: TextEncoderConfig) -> dict[str, Any]:
        return {
            "architectures": ["CLIPTextModelWithProjection" if text.projection else "CLIPTextModel"],
            "model_type": "clip_text_model",
            "vocab_size": SIZE,
            "hidden_size": text.width,
            "intermediate_size": 4 * text.width,
            "num_hidden_layers": text.layers,
            "num_attention_heads": max(1, text.width // 64),  # CLIP's heads are 64 wide at every size
            "max_position_embeddings": 77,
            "hidden_act": text.act,
            "layer_norm_eps": 1e-5,
            "attention_dropout": 0.0,
            "projection_dim": text.projection or text.width,
            "bos_token_id": SIZE - 2,
            "eos_token_id": SIZE - 1,
            "pad_token_id": SIZE - 1 if len(text.pad) > 1 else 0,
        }

    def _schedule(self) -> dict[str, Any]:
        config = {
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
        return config | ({"rescale_betas_zero_snr": True} if self.zero_snr else {})

    def _index(self) -> dict[str, Any]:
        texts = {
            name: ["transformers", cls]
            for part, tokenizer, text in zip(_ENCODERS, _TOKENIZERS, self.texts, strict=False)
            for name, cls in ((part, self._text(text)["architectures"][0]), (tokenizer, "CLIPTokenizer"))
        }
        checker = {"requires_safety_checker": False, "safety_checker": [None, None], "feature_extractor": [None, None]}
        return {
            "_class_name": _PIPELINES[self.kind],
            **({} if self.kind == "sdxl" else checker),
            "scheduler": ["diffusers", "PNDMScheduler"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            **texts,
        }


_ENCODERS = ("text_encoder", "text_encoder_2")
_TOKENIZERS = ("tokenizer", "tokenizer_2")

# What the families' published models are built from, but for what a single file shows.
PLANS: dict[Kind, ArchitectureConfig] = {
    "sd1": ArchitectureConfig(),
    "sd2": ArchitectureConfig("sd2", unet_heads=0, texts=(TextEncoderConfig(1024, 23, "gelu", pad="!"),)),
    "sdxl": ArchitectureConfig(
        "sdxl",
        unet=(320, 640, 1280),
        depths=(0, 2, 10),
        unet_heads=0,
        vae_scale=0.13025,
        texts=(TextEncoderConfig(), TextEncoderConfig(1280, 32, "gelu", projection=1280, pad="!")),
    ),
}


def write_config_folder(folder: Path, blueprint: ArchitectureConfig) -> None:
    """Write a diffusers folder that lacks only the weights: configurations and tokenizers."""
    for name, config in blueprint.configs().items():
        write_atomic(folder / name, json.dumps(config, indent=2, sort_keys=True).encode())
    for tokenizer, encoder in zip(_TOKENIZERS, blueprint.texts, strict=False):
        for name, text in tokenizer_files(encoder.pad).items():
            write_atomic(folder / tokenizer / name, text.encode("utf-8"))
