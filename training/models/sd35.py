"""Stable Diffusion 3.5: a transformer trained by flow matching, conditioned on two CLIP encoders and optionally T5."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from training.models.clip_text import penultimate, refuse_clip_skip, too_long
from training.models.family import (
    CLIP_PART,
    T5_PART,
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
from training.models.sd1 import CLIP
from training.models.validate import check_complete
from training.objective import FlowMatch, flow_match

if TYPE_CHECKING:
    import torch

    from training.models.architecture_config import LdmLayout
    from training.models.family import Condition, ModelConfigs, Modules, Moments
    from training.options.objective import ObjectiveOptions

_JOINT = r"to_(?:q|k|v|out\.0)|add_(?:q|k|v)_proj|to_add_out"
_T5_TOKENS = 256  # as in diffusers' pipeline


class SD35:
    """Stateless; `Family` describes the members.

    Its adapter files have diffusers' names, which ComfyUI reads as well.
    """

    name: ClassVar[str] = "sd35"
    title: ClassVar[str] = "Stable Diffusion 3.5"
    control_models: ClassVar[str] = ""
    architecture: ClassVar[str] = "stable-diffusion-3.5/lora"
    multiple: ClassVar[int] = 16  # the VAE's factor 8 times the transformer's patches of 2 x 2
    kohya_v2: ClassVar[bool] = False
    parts: ClassVar[dict[str, Part]] = {
        "transformer": Part(("SD3Transformer2DModel",)),
        "vae": VAE_PART,
        "text_encoder": CLIP_PART,
        "text_encoder_2": CLIP_PART,
        "text_encoder_3": T5_PART,
    }
    denoiser: ClassVar[str] = "transformer"
    chunked_prompts: ClassVar[bool] = False  # T5 reads a prompt as a whole
    clip_skips: ClassVar[bool] = False
    zeroes_empty_negative: ClassVar[bool] = False
    xl_schedules: ClassVar[bool] = False
    compiled_blocks: ClassVar[CompiledBlocks] = CompiledBlocks(("JointTransformerBlock",))
    activation_memory: ClassVar[ActivationMemory] = ActivationMemory(
        9.9, 1.2, 1024 * 1024
    )  # from 34.6 GiB that users report for a batch of three
    default_size: ClassVar[int] = 1024
    encoders: ClassVar[tuple[str, ...]] = text_encoders(parts)
    single_file: ClassVar[LdmLayout | None] = None  # such files lack the text encoders
    targets: ClassVar[dict[str, AdapterTargets]] = {
        "transformer": AdapterTargets(
            rf".*transformer_blocks\.\d+\.(?:attn2?\.(?:{_JOINT})|ff(?:_context)?\.net\.(?:0\.proj|2))"
        ),
        "text_encoder": CLIP,
        "text_encoder_2": CLIP,
    }
    prefixes: ClassVar[dict[str, str]] = {
        "transformer": "transformer",
        "text_encoder": "text_encoder",
        "text_encoder_2": "text_encoder_2",
    }
    kohya: ClassVar[bool] = False
    loader: ClassVar[str] = "SD3LoraLoaderMixin"
    pipeline: ClassVar[str] = "StableDiffusion3Pipeline"

    def matches(self, checkpoint: ModelConfigs) -> bool:
        if checkpoint.config("transformer").get("_class_name") != "SD3Transformer2DModel":
            return False
        check_complete(self, checkpoint, 16, optional=("text_encoder_3",))
        return True

    def objective(self, checkpoint: ModelConfigs, options: ObjectiveOptions) -> FlowMatch:
        return flow_match(checkpoint.config("scheduler"), options)

    def check_text(self, settings: TextSettings) -> None:
        refuse_clip_skip(settings, self.title)

    def encode_images(self, vae: Any, pixels: torch.Tensor) -> Moments:
        latent = vae.encode(pixels).latent_dist
        return latent.mean, latent.std

    def normalizer(self, checkpoint: ModelConfigs) -> Callable[[Moments], Moments]:
        config = checkpoint.config("vae")
        scale, shift = float(config.get("scaling_factor", 1.5305)), float(config.get("shift_factor") or 0.0)
        return lambda moments: ((moments[0] - shift) * scale, moments[1] * scale)

    def encode_text(
        self, tokenizers: Modules, encoders: Modules, captions: list[str], settings: TextSettings
    ) -> Condition:
        """{'text': (B, tokens + 2 + 256, width), 'pooled': (B, both encoders' widths)}.

        The two CLIP outputs, concatenated and padded with zeros to T5's width, then T5's output; without T5, `forward`
        adds zeros, as diffusers' pipeline does.
        """
        import torch

        texts = [penultimate(tokenizers[part], encoders[part], captions, settings) for part in self.encoders[:2]]
        clip = torch.cat([text for text, _ in texts], dim=-1)
        pooled = torch.cat([pooled for _, pooled in texts], dim=-1)
        if "text_encoder_3" in encoders:
            t5 = _t5(tokenizers["text_encoder_3"], encoders["text_encoder_3"], captions).to(clip.dtype)
            wide = torch.nn.functional.pad(clip, (0, t5.shape[-1] - clip.shape[-1]))
            return {"text": torch.cat([wide, t5], dim=1), "pooled": pooled}
        return {"text": clip, "pooled": pooled}

    def encode_tokens(self, part: str, encoder: Any, tokens: torch.Tensor, clip_skip: int) -> EncodedText:
        raise NotImplementedError("prompts of this family are not read in chunks")

    def join_texts(self, outputs: dict[str, EncodedText]) -> Condition:
        raise NotImplementedError("prompts of this family are not read in chunks")

    def too_long(self, tokenizers: Modules, caption: str, settings: TextSettings) -> bool:
        return too_long(tokenizers["text_encoder"], caption, settings)

    def forward(
        self, model: Any, noisy: torch.Tensor, timesteps: torch.Tensor, condition: Condition, size: torch.Tensor
    ) -> torch.Tensor:
        import torch

        dtype = module_dtype(model)
        text, pooled = (condition[name].to(dtype) for name in ("text", "pooled"))
        width = model.config.joint_attention_dim
        if text.shape[-1] < width:  # without T5; only the denoiser knows the width of T5's text
            wide = torch.nn.functional.pad(text, (0, width - text.shape[-1]))
            text = torch.cat([wide, wide.new_zeros(len(wide), _T5_TOKENS, width)], dim=1)
        prediction: torch.Tensor = model(
            noisy.to(dtype),
            encoder_hidden_states=text,
            pooled_projections=pooled,
            timestep=timesteps,
            return_dict=False,
        )[0]
        return prediction

    def key(self, part: str, path: str) -> str:
        return f"{self.prefixes[part]}.{path}"

    def probe_output(self, part: str, module: Any, tokenizers: Modules) -> torch.Tensor:
        import torch

        with torch.no_grad():
            if part in self.encoders:
                found = penultimate(tokenizers[part], module, ["a photo of a man"], TextSettings())
                return torch.cat([found[0].flatten(), found[1].flatten()])
            random = torch.Generator().manual_seed(0)
            config = module.config
            condition = {
                "text": torch.randn(1, 77, config.joint_attention_dim, generator=random),
                "pooled": torch.randn(1, config.pooled_projection_dim, generator=random),
            }
            noisy = torch.randn(1, config.in_channels, 8, 8, generator=random)
            return self.forward(module, noisy, torch.tensor([500.0]), condition, torch.zeros(1, 6))


def _t5(tokenizer: Any, encoder: Any, captions: list[str]) -> torch.Tensor:
    tokens = tokenizer(captions, padding="max_length", max_length=_T5_TOKENS, truncation=True, return_tensors="pt")
    hidden: torch.Tensor = encoder(tokens.input_ids.to(encoder.device))[0]
    return hidden
