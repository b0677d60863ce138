"""Stable Diffusion XL: a U-Net conditioned on two CLIP encoders, pooled text, and sizes of source, crop and image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.errors import PrepError
from training.models.architecture_config import ArchitectureConfig, LdmLayout, TextEncoderConfig
from training.models.clip_text import encode_penultimate, penultimate, refuse_clip_skip
from training.models.family import (
    CLIP_PART,
    ActivationMemory,
    AdapterTargets,
    EncodedText,
    Part,
    TextSettings,
    module_dtype,
    text_encoders,
)
from training.models.ldm_checkpoint import unet_name
from training.models.sd1 import CLIP, SD1, UNET
from training.models.validate import check_complete, check_width, unet_of

if TYPE_CHECKING:
    import torch

    from training.models.family import Condition, ModelConfigs, Modules

_ARCHITECTURE = ArchitectureConfig(
    unet=(320, 640, 1280),
    depths=(0, 2, 10),
    unet_heads=0,
    linear_projection=True,
    sample_size=128,
    size_conditioning=True,
    vae_scale=0.13025,
    texts=(TextEncoderConfig(), TextEncoderConfig(1280, 32, "gelu", projection=1280, pad="!")),
)
_UNET_CONFIG = _ARCHITECTURE.unet_config()


class SDXL(SD1):
    """Stateless; `Family` describes the members.

    Its VAE overflows in half precision: like every VAE here it runs in float32.
    """

    name: ClassVar[str] = "sdxl_base_v1-0"
    title: ClassVar[str] = "Stable Diffusion XL"
    control_models: ClassVar[str] = "xl"
    architecture: ClassVar[str] = "stable-diffusion-xl-v1-base/lora"
    activation_memory: ClassVar[ActivationMemory] = ActivationMemory(6.3, 0.8, 1024 * 1024)  # see tests/test_gates.py
    default_size: ClassVar[int] = 1024
    clip_skips: ClassVar[bool] = False
    zeroes_empty_negative: ClassVar[bool] = True  # as its pipelines and WebUI do
    xl_schedules: ClassVar[bool] = True
    parts: ClassVar[dict[str, Part]] = SD1.parts | {"text_encoder_2": CLIP_PART}
    encoders: ClassVar[tuple[str, ...]] = text_encoders(parts)
    single_file: ClassVar[LdmLayout | None] = LdmLayout(
        _ARCHITECTURE,
        ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."),
        marker="model.diffusion_model.label_emb.0.0.weight",
    )
    targets: ClassVar[dict[str, AdapterTargets]] = {"unet": UNET, "text_encoder": CLIP, "text_encoder_2": CLIP}
    prefixes: ClassVar[dict[str, str]] = {
        "unet": "lora_unet",
        "text_encoder": "lora_te1",
        "text_encoder_2": "lora_te2",
    }
    loader: ClassVar[str] = "StableDiffusionXLLoraLoaderMixin"
    pipeline: ClassVar[str] = "StableDiffusionXLPipeline"

    def matches(self, checkpoint: ModelConfigs) -> bool:
        unet, name = unet_of(checkpoint), checkpoint.name
        if unet.get("addition_embed_type") != "text_time":
            return False
        if checkpoint.config("text_encoder_2") and not checkpoint.config("text_encoder"):
            raise PrepError(f"{name} is a Stable Diffusion XL refiner.", "Train on the base model.")
        check_complete(self, checkpoint, 4)
        texts = [checkpoint.config(part) for part in self.encoders]
        check_width(checkpoint, unet.get("cross_attention_dim"), sum(int(text["hidden_size"]) for text in texts))
        added = int(texts[1]["projection_dim"]) + 6 * int(unet.get("addition_time_embed_dim", 0))
        check_width(checkpoint, unet.get("projection_class_embeddings_input_dim"), added)
        return True

    def check_text(self, settings: TextSettings) -> None:
        refuse_clip_skip(settings, self.title)

    def encode_text(
        self, tokenizers: Modules, encoders: Modules, captions: list[str], settings: TextSettings
    ) -> Condition:
        """{'text': (B, tokens + 2, both widths), 'pooled': (B, width)}.

        The last layers but one of both encoders, concatenated, and the pooled output of the second.
        """
        import torch

        texts = [penultimate(tokenizers[part], encoders[part], captions, settings) for part in self.encoders]
        return {"text": torch.cat([text for text, _ in texts], dim=-1), "pooled": texts[1][1]}

    def encode_tokens(self, part: str, encoder: Any, tokens: torch.Tensor, clip_skip: int) -> EncodedText:
        return encode_penultimate(encoder, tokens)

    def join_texts(self, outputs: dict[str, EncodedText]) -> Condition:
        import torch

        pooled = outputs["text_encoder_2"].pooled
        assert pooled is not None
        return {"text": torch.cat([outputs[part].text for part in self.encoders], dim=-1), "pooled": pooled}

    def forward(
        self, model: Any, noisy: torch.Tensor, timesteps: torch.Tensor, condition: Condition, size: torch.Tensor
    ) -> torch.Tensor:
        # Sizes stay in float32: bfloat16 cannot represent 1016.
        dtype = module_dtype(model)
        text, pooled = (condition[name].to(dtype) for name in ("text", "pooled"))
        added = {"text_embeds": pooled, "time_ids": size}
        prediction: torch.Tensor = model(
            noisy.to(dtype), timesteps, encoder_hidden_states=text, added_cond_kwargs=added, return_dict=False
        )[0]
        return prediction

    def key(self, part: str, path: str) -> str:
        """kohya names the U-Net's modules as single files do, those of the text encoders as diffusers does."""
        if part != "unet":
            return super().key(part, path)
        return super().key(part, unet_name(f"{path}.weight", _UNET_CONFIG).removesuffix(".weight"))

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
