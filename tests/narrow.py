"""Base models of every family, narrow ones: real configurations with small widths, and weights from a seed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from pipeline.clip_bpe import tokenizer_files
from training.export.tensor_file import write_tensors
from training.models.architecture_config import ArchitectureConfig, TextEncoderConfig
from training.models.mini import seeded, write_model
from training.models.parts import empty_part, published_name
from training.models.sd2 import SD2
from training.models.sdxl import SDXL

_SIZES = {"vae": (8, 8, 16, 16), "vae_layers": 1}

# One layer a block where a single file tells how many there are: a run builds every module some eight times over.
NARROW: dict[str, ArchitectureConfig] = {
    "sd1": ArchitectureConfig(unet=(32, 32, 64, 64), unet_layers=1, texts=(TextEncoderConfig(64, 3),), **_SIZES),
    "sd2": replace(
        SD2.single_file.architecture,
        unet=(32, 32, 64, 64),
        unet_layers=1,
        texts=(TextEncoderConfig(64, 3, "gelu", pad="!"),),
        **_SIZES,
    ),
    "sdxl": replace(
        SDXL.single_file.architecture,
        unet=(32, 32, 64),
        depths=(0, 1, 2),
        texts=(TextEncoderConfig(64, 3), TextEncoderConfig(96, 3, "gelu", projection=32, pad="!")),
        **_SIZES,
    ),
}
NARROW["sd1 of two layers"] = replace(NARROW["sd1"], unet_layers=2)  # as many modules as the real one has
_WORDS = ["a", "photo", "of", "man", "smith", "image", "in", "the", "house", "with", "apron", "hat", ","]


def write_narrow(folder: Path, kind: str) -> None:
    """Write the diffusers folder of a narrow model: sd1, sd2, sdxl or sd35."""
    if kind == "sd35":
        _write_sd35(folder)
    else:
        write_model(folder, NARROW[kind])


def _write_sd35(folder: Path) -> None:
    from transformers import T5Tokenizer

    for name, config in _sd35_configs().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(config))
    for name, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        (folder / name).mkdir()
        for file, text in tokenizer_files(pad).items():
            (folder / name / file).write_text(text, "utf-8")
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0), *((f"▁{word}", -2.0) for word in _WORDS)]
    T5Tokenizer(vocab=pieces, extra_ids=0).save_pretrained(folder / "tokenizer_3")
    for part in ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"):
        model = empty_part(folder, part)
        learned = {name for name, _ in model.named_parameters()}
        tensors = {
            published_name(part, name): seeded(f"{part}.{name}", value) if name in learned else value
            for name, value in model.state_dict().items()
        }
        if part == "text_encoder_3":
            del tensors["encoder.embed_tokens.weight"]  # the same as shared.weight
        file = "model.safetensors" if "text" in part else "diffusion_pytorch_model.safetensors"
        write_tensors(folder / part / file, tensors, {"format": "pt"})


def _sd35_configs() -> dict[str, dict[str, object]]:
    """Stable Diffusion 3.5 medium's configurations (stabilityai/stable-diffusion-3.5-medium) with small numbers."""
    plan = ArchitectureConfig(
        texts=(TextEncoderConfig(64, 3, projection=64), TextEncoderConfig(96, 3, "gelu", projection=32, pad="!")),
    )
    texts = {name: config for name, config in plan.configs().items() if name.startswith("text_encoder")}
    clip, t5 = ["transformers", "CLIPTextModelWithProjection"], ["transformers", "T5EncoderModel"]
    return texts | {
        "model_index.json": {
            "_class_name": "StableDiffusion3Pipeline",
            "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
            "transformer": ["diffusers", "SD3Transformer2DModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "text_encoder": clip,
            "text_encoder_2": clip,
            "text_encoder_3": t5,
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
            "tokenizer_3": ["transformers", "T5Tokenizer"],
        },
        "scheduler/scheduler_config.json": {
            "_class_name": "FlowMatchEulerDiscreteScheduler",
            "num_train_timesteps": 1000,
            "shift": 3.0,
        },
        "transformer/config.json": {
            "_class_name": "SD3Transformer2DModel",
            "sample_size": 8,
            "patch_size": 2,
            "in_channels": 16,
            "out_channels": 16,
            "num_layers": 3,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "caption_projection_dim": 32,
            "joint_attention_dim": 192,
            "pooled_projection_dim": 96,
            "pos_embed_max_size": 16,
            "dual_attention_layers": [0, 1],
            "qk_norm": "rms_norm",
        },
        "vae/config.json": {
            "_class_name": "AutoencoderKL",
            "latent_channels": 16,
            "down_block_types": ["DownEncoderBlock2D"] * 4,
            "up_block_types": ["UpDecoderBlock2D"] * 4,
            "block_out_channels": [8, 8, 16, 16],
            "layers_per_block": 1,
            "norm_num_groups": 8,
            "sample_size": 64,
            "scaling_factor": 1.5305,
            "shift_factor": 0.0609,
            "force_upcast": True,
            "use_quant_conv": False,
            "use_post_quant_conv": False,
        },
        "text_encoder_3/config.json": {
            "architectures": ["T5EncoderModel"],
            "model_type": "t5",
            "d_model": 192,
            "d_ff": 64,
            "d_kv": 16,
            "num_layers": 2,
            "num_heads": 2,
            "vocab_size": 64,
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False,
            "decoder_start_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 0,
        },
    }
