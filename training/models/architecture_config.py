"""The configuration files of Stable Diffusion 1.x, 2.x and XL models, written from the sizes in which they differ."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.clip_bpe import SIZE, tokenizer_files
from pipeline.workspace import write_atomic

_SIZE_CHANNELS = 256  # channels of the embedding of each of Stable Diffusion XL's six sizes


@dataclass(frozen=True, slots=True)
class TextEncoderConfig:
    """The sizes of a CLIP text encoder; the defaults are those of Stable Diffusion 1.x."""

    width: int = 768
    layers: int = 12
    act: str = "quick_gelu"  # gelu: OpenCLIP's
    projection: int = 0  # width of the projected pooled output; 0: the encoder has no projection
    pad: str = "<|endoftext|>"  # the padding token; '!' has the id 0


@dataclass(frozen=True, slots=True)
class ArchitectureConfig:
    """The sizes in which models of these families differ; the defaults are those of Stable Diffusion 1.x."""

    unet: tuple[int, ...] = (320, 640, 1280, 1280)
    unet_layers: int = 2
    depths: tuple[int, ...] = (1, 1, 1, 0)  # transformer blocks in each attention, by level; 0: no attention
    unet_heads: int = 8  # of every attention; 0: heads of 64 channels
    linear_projection: bool = False  # around the transformer blocks; else 1 x 1 convolutions
    sample_size: int = 64  # side of the latents that the model was trained with
    sample_size_v: int = 0  # the same where it predicts v; 0: no difference
    size_conditioning: bool = False  # by sizes and pooled text, as in Stable Diffusion XL
    vae: tuple[int, ...] = (128, 256, 512, 512)
    vae_layers: int = 2
    vae_scale: float = 0.18215  # brings the latents to unit variance
    texts: tuple[TextEncoderConfig, ...] = (TextEncoderConfig(),)
    prediction: str = "epsilon"  # or v_prediction, or unknown
    zero_snr: bool = False  # the noise schedule is rescaled to zero terminal SNR

    def configs(self) -> dict[str, dict[str, Any]]:
        """The diffusers configuration of each part, by file name."""
        parts = {f"{part}/config.json": self._text(text) for part, text in zip(_ENCODERS, self.texts, strict=False)}
        return {
            "model_index.json": self._index(),
            "unet/config.json": self.unet_config(),
            "vae/config.json": self._vae(),
            "scheduler/scheduler_config.json": self._schedule(),
            **parts,
        }

    def unet_config(self) -> dict[str, Any]:
        """The configuration of the U-Net, as diffusers writes it."""
        down = ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in self.depths]
        config = {
            "_class_name": "UNet2DConditionModel",
            "sample_size": self._sample_size,
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
            # a misnomer in diffusers: the number of heads
            "attention_head_dim": self.unet_heads or [max(1, width // 64) for width in self.unet],
        }
        if self.linear_projection:
            config["use_linear_projection"] = True
        if self.size_conditioning:
            config |= {
                "transformer_layers_per_block": [max(1, depth) for depth in self.depths],
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": _SIZE_CHANNELS,
                "projection_class_embeddings_input_dim": self.texts[-1].projection + 6 * _SIZE_CHANNELS,
            }
        return config

    @property
    def _sample_size(self) -> int:
        return self.sample_size_v if self.sample_size_v and self.prediction == "v_prediction" else self.sample_size

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
        return config | ({"sample_size": 1024, "force_upcast": True} if self.size_conditioning else {})

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
            "_class_name": f"StableDiffusion{'XL' if self.size_conditioning else ''}Pipeline",
            **({} if self.size_conditioning else checker),
            "scheduler": ["diffusers", "PNDMScheduler"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            **texts,
        }


_ENCODERS = ("text_encoder", "text_encoder_2")
_TOKENIZERS = ("tokenizer", "tokenizer_2")


@dataclass(frozen=True, slots=True)
class LdmLayout:
    """The models of a family in one file, with the names of CompVis' latent-diffusion code."""

    architecture: ArchitectureConfig  # of the published models, where the file does not show it
    text_prefixes: tuple[str, ...]  # of the names of each text encoder; OpenCLIP's encoders end in 'model.'
    unused_layer: bool = False  # files have one more layer of the text encoder than the model uses
    prediction: str = "epsilon"  # where the file does not tell
    marker: str = ""  # a tensor that only this family has, for messages about incomplete files


def write_config_folder(folder: Path, architecture: ArchitectureConfig) -> None:
    """Write a diffusers folder without weights: configurations and tokenizers."""
    for name, config in architecture.configs().items():
        write_atomic(folder / name, json.dumps(config, indent=2, sort_keys=True).encode())
    for tokenizer, encoder in zip(_TOKENIZERS, architecture.texts, strict=False):
        for name, text in tokenizer_files(encoder.pad).items():
            write_atomic(folder / tokenizer / name, text.encode("utf-8"))
