"""Stable Diffusion XL: a U-Net told two CLIP texts, their summary, and the sizes of source, crop and image."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.errors import PrepError
from training.models.clip_text import penultimate, refuse_clip_skip
from training.models.family import ActivationMemory, AdapterTargets, TextSettings, module_dtype
from training.models.sd1 import CLIP, SD1, UNET
from training.models.validate import check_complete, check_width, unet_of

if TYPE_CHECKING:
    import torch

    from training.models.family import Condition, Modules
    from training.models.loader import BaseModel

_LAYERS = 2  # per block of every Stable Diffusion XL
_INNER = {
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


class SDXL(SD1):
    """Stateless; see Family for what each member is.

    Its VAE overflows in half precision: like every VAE here it runs in float32.
    """

    name: ClassVar[str] = "sdxl_base_v1-0"
    title: ClassVar[str] = "Stable Diffusion XL"
    architecture: ClassVar[str] = "stable-diffusion-xl-v1-base/lora"
    activation_memory: ClassVar[ActivationMemory] = ActivationMemory(6.3, 0.8, 1024 * 1024)  # see tests/test_gates.py
    default_size: ClassVar[int] = 1024
    encoders: ClassVar[tuple[str, ...]] = ("text_encoder", "text_encoder_2")
    targets: ClassVar[dict[str, AdapterTargets]] = {"unet": UNET, "text_encoder": CLIP, "text_encoder_2": CLIP}
    prefixes: ClassVar[dict[str, str]] = {
        "unet": "lora_unet",
        "text_encoder": "lora_te1",
        "text_encoder_2": "lora_te2",
    }
    loader: ClassVar[str] = "StableDiffusionXLLoraLoaderMixin"
    pipeline: ClassVar[str] = "StableDiffusionXLPipeline"

    def matches(self, checkpoint: BaseModel) -> bool:
        unet, name = unet_of(checkpoint), checkpoint.base.name
        if unet.get("addition_embed_type") != "text_time":
            return False
        if checkpoint.config("text_encoder_2") and not checkpoint.config("text_encoder"):
            raise PrepError(f"{name} is a Stable Diffusion XL refiner.", "Train on the base model.")
        check_complete(self, checkpoint, 4)
        texts = [checkpoint.config(part) for part in self.encoders]
        check_width(checkpoint, unet.get("cross_attention_dim"), sum(int(text["hidden_size"]) for text in texts))
        told = int(texts[1]["projection_dim"]) + 6 * int(unet.get("addition_time_embed_dim", 0))
        check_width(checkpoint, unet.get("projection_class_embeddings_input_dim"), told)
        return True

    def check_text(self, settings: TextSettings) -> None:
        refuse_clip_skip(settings, self.title)

    def encode_text(
        self, tokenizers: Modules, encoders: Modules, captions: list[str], settings: TextSettings
    ) -> Condition:
        """{'text': (B, tokens + 2, both widths), 'pooled': (B, width)}: layers last but one, side by side."""
        import torch

        texts = [penultimate(tokenizers[part], encoders[part], captions, settings) for part in self.encoders]
        return {"text": torch.cat([text for text, _ in texts], dim=-1), "pooled": texts[1][1]}

    def forward(
        self, model: Any, noisy: torch.Tensor, time: torch.Tensor, condition: Condition, size: torch.Tensor
    ) -> torch.Tensor:
        # Sizes stay in float32: bfloat16 knows no 1016.
        dtype = module_dtype(model)
        text, pooled = (condition[name].to(dtype) for name in ("text", "pooled"))
        added = {"text_embeds": pooled, "time_ids": size}
        prediction: torch.Tensor = model(
            noisy.to(dtype), time, encoder_hidden_states=text, added_cond_kwargs=added, return_dict=False
        )[0]
        return prediction

    def key(self, part: str, path: str) -> str:
        return super().key(part, original_name(path) if part == "unet" else path)

    def probe_output(self, part: str, module: Any, tokenizers: Modules) -> torch.Tensor:
        import torch

        with torch.no_grad():
            if part in self.encoders:
                found = penultimate(tokenizers[part], module, ["a photo of a man"], TextSettings())
                return torch.cat([found[0].flatten(), found[1].flatten()])
            random = torch.Generator().manual_seed(0)
            noisy = torch.randn(1, 4, 16, 16, generator=random)
            config = module.config
            pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
            condition = {
                "text": torch.randn(1, 77, config.cross_attention_dim, generator=random),
                "pooled": torch.randn(1, pooled, generator=random),
            }
            size = torch.tensor([[128.0, 128.0, 0.0, 0.0, 128.0, 128.0]])
            return self.forward(module, noisy, torch.tensor([500]), condition, size)


def original_name(path: str) -> str:
    """A U-Net module's path in the original layout, as kohya names Stable Diffusion XL's modules.

    'down_blocks.1.attentions.0.proj_in' is 'input_blocks.4.1.proj_in': levels are counted through.
    """
    head = re.match(r"(down|mid|up)_blocks?\.(?:(\d+)\.)?(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.", path)
    if head is None:
        return path
    side, level, kind, number = head[1], int(head[2] or 0), head[3], int(head[4])
    rest = path.removeprefix(head[0])
    inner = _INNER.get(rest, rest) if kind == "resnets" else rest
    if side == "mid":
        return f"middle_block.{1 if kind == 'attentions' else 2 * number}.{inner}"
    if kind == "downsamplers":
        return f"input_blocks.{(level + 1) * (_LAYERS + 1)}.0.op"
    if kind == "upsamplers":  # after the attention that both levels with one have
        return f"output_blocks.{level * (_LAYERS + 1) + _LAYERS}.2.conv"
    first = level * (_LAYERS + 1) + number
    place = f"input_blocks.{first + 1}" if side == "down" else f"output_blocks.{first}"
    return f"{place}.{1 if kind == 'attentions' else 0}.{inner}"
