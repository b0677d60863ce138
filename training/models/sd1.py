"""Stable Diffusion 1.x: a U-Net that predicts epsilon or v, conditioned on CLIP (https://arxiv.org/abs/2112.10752)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from training.models.architecture_config import ArchitectureConfig, LdmLayout
from training.models.clip_text import encode_last, last_layers, too_long
from training.models.family import (
    CLIP_PART,
    UNET_PART,
    VAE_PART,
    ActivationMemory,
    AdapterTargets,
    CompiledBlocks,
    EncodedText,
    Part,
    TextSettings,
    module_dtype,
    text_encoders,
)
from training.models.validate import check_complete, check_width, unet_of
from training.objective import DDPM, ddpm

if TYPE_CHECKING:
    import torch

    from training.models.family import Condition, ModelConfigs, Modules, Moments
    from training.options.objective import ObjectiveOptions

_ATTENTION = r"attn[12]\.to_(?:q|k|v|out\.0)|ff\.net\.(?:0\.proj|2)"
_RESNET = r"resnets\.\d+\.(?:conv1|conv2|conv_shortcut|time_emb_proj)"

# The modules of kohya's networks.lora: by default those of the transformers, none of the convolutional blocks.
UNET = AdapterTargets(
    linear=rf".*attentions\.\d+\.(?:proj_in|proj_out|transformer_blocks\.\d+\.(?:{_ATTENTION}))",
    conv=rf".*(?:{_RESNET}|(?:down|up)samplers\.0\.conv)",
)
CLIP = AdapterTargets(linear=r".*layers\.\d+\.(?:self_attn\.(?:q|k|v|out)_proj|mlp\.fc[12])")


class SD1:
    """Stateless; `Family` describes the members."""

    name: ClassVar[str] = "sd_v1"
    title: ClassVar[str] = "Stable Diffusion 1.x"
    control_models: ClassVar[str] = "sd1"
    architecture: ClassVar[str] = "stable-diffusion-v1/lora"
    kohya_v2: ClassVar[bool] = False
    multiple: ClassVar[int] = 8
    parts: ClassVar[dict[str, Part]] = {"unet": UNET_PART, "vae": VAE_PART, "text_encoder": CLIP_PART}
    denoiser: ClassVar[str] = "unet"
    chunked_prompts: ClassVar[bool] = True
    clip_skips: ClassVar[bool] = True
    zeroes_empty_negative: ClassVar[bool] = False
    xl_schedules: ClassVar[bool] = False
    compiled_blocks: ClassVar[CompiledBlocks] = CompiledBlocks(("BasicTransformerBlock", "ResnetBlock2D"))
    activation_memory: ClassVar[ActivationMemory] = ActivationMemory(0.86, 0.3, 512 * 512)  # see tests/test_gates.py
    default_size: ClassVar[int] = 512
    encoders: ClassVar[tuple[str, ...]] = text_encoders(parts)
    single_file: ClassVar[LdmLayout | None] = LdmLayout(ArchitectureConfig(), ("cond_stage_model.transformer.",))
    targets: ClassVar[dict[str, AdapterTargets]] = {"unet": UNET, "text_encoder": CLIP}
    prefixes: ClassVar[dict[str, str]] = {"unet": "lora_unet", "text_encoder": "lora_te"}
    kohya: ClassVar[bool] = True
    loader: ClassVar[str] = "StableDiffusionLoraLoaderMixin"
    pipeline: ClassVar[str] = "StableDiffusionPipeline"

    def matches(self, checkpoint: ModelConfigs) -> bool:
        unet = unet_of(checkpoint)
        other = unet.get("addition_embed_type") or unet.get("use_linear_projection") or is_v2(unet)
        if not unet or other or checkpoint.config("text_encoder_2"):
            return False
        check_complete(self, checkpoint, 4)
        check_width(checkpoint, unet.get("cross_attention_dim"), checkpoint.config("text_encoder").get("hidden_size"))
        return True

    def objective(self, checkpoint: ModelConfigs, options: ObjectiveOptions) -> DDPM:
        return ddpm(checkpoint.config("scheduler"), options)

    def check_text(self, settings: TextSettings) -> None:
        """All settings are supported."""

    def encode_images(self, vae: Any, pixels: torch.Tensor) -> Moments:
        latent = vae.encode(pixels).latent_dist
        return latent.mean, latent.std

    def normalizer(self, checkpoint: ModelConfigs) -> Callable[[Moments], Moments]:
        scale = float(checkpoint.config("vae").get("scaling_factor", 0.18215))
        return lambda moments: (moments[0] * scale, moments[1] * scale)

    def encode_text(
        self, tokenizers: Modules, encoders: Modules, captions: list[str], settings: TextSettings
    ) -> Condition:
        """{'text': (B, tokens + 2, width)}: CLIP's last layer or an earlier one, after the final layer norm."""
        return {"text": last_layers(tokenizers["text_encoder"], encoders["text_encoder"], captions, settings)}

    def encode_tokens(self, part: str, encoder: Any, tokens: torch.Tensor, clip_skip: int) -> EncodedText:
        return encode_last(encoder, tokens, clip_skip if self.clip_skips else 1)

    def join_texts(self, outputs: dict[str, EncodedText]) -> Condition:
        return {"text": outputs["text_encoder"].text}

    def too_long(self, tokenizers: Modules, caption: str, settings: TextSettings) -> bool:
        return too_long(tokenizers["text_encoder"], caption, settings)

    def forward(
        self, model: Any, noisy: torch.Tensor, timesteps: torch.Tensor, condition: Condition, size: torch.Tensor
    ) -> torch.Tensor:
        dtype = module_dtype(model)
        text = condition["text"].to(dtype)
        prediction: torch.Tensor = model(noisy.to(dtype), timesteps, encoder_hidden_states=text, return_dict=False)[0]
        return prediction

    def key(self, part: str, path: str) -> str:
        return f"{self.prefixes[part]}_{path.replace('.', '_')}"

    def probe_output(self, part: str, module: Any, tokenizers: Modules) -> torch.Tensor:
        import torch

        with torch.no_grad():
            if part in self.encoders:
                return self.encode_text(tokenizers, {part: module}, ["a photo of a man"], TextSettings())["text"]
            random = torch.Generator().manual_seed(0)
            noisy = torch.randn(
                1, 4, 16, 16, generator=random
            )  # 2 x 2 at the coarsest level: attention over one position has no effect
            text = torch.randn(1, 77, module.config.cross_attention_dim, generator=random)
            return self.forward(module, noisy, torch.tensor([500]), {"text": text}, torch.zeros(1, 6))


def is_v2(unet: dict[str, Any]) -> bool:
    """Whether the U-Net takes text of the width of OpenCLIP's ViT-H, as that of Stable Diffusion 2.x does."""
    return bool(unet.get("cross_attention_dim") == 1024)
