"""Stable Diffusion 1.x: an epsilon or v U-Net with CLIP text, latents at an eighth of the size."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.errors import PrepError
from training.objective import DDPM, ddpm

if TYPE_CHECKING:
    import torch

    from training.checkpoint import Checkpoint
    from training.families.family import Condition, Moments
    from training.noise import Noise

_ATTENTION = r"attn[12]\.to_(?:q|k|v|out\.0)|ff\.net\.(?:0\.proj|2)"
_ELSE = "prep trains Stable Diffusion 1.x for now."


class SD1:
    """Stateless; see Family for what each member is."""

    name: ClassVar[str] = "sd_v1"
    architecture: ClassVar[str] = "stable-diffusion-v1/lora"
    token_limit: ClassVar[int] = 75
    factor: ClassVar[int] = 8
    # The same modules as kohya's default: all of each transformer, nothing of the convolutional blocks.
    targets: ClassVar[dict[str, str]] = {
        "unet": rf".*attentions\.\d+\.(?:proj_in|proj_out|transformer_blocks\.\d+\.(?:{_ATTENTION}))",
        "text_encoder": r".*layers\.\d+\.(?:self_attn\.(?:q|k|v|out)_proj|mlp\.fc[12])",
    }
    prefixes: ClassVar[dict[str, str]] = {"unet": "lora_unet", "text_encoder": "lora_te"}

    def recognise(self, checkpoint: Checkpoint) -> None:
        unet, text, vae = (checkpoint.config(part) for part in ("unet", "text_encoder", "vae"))
        name = checkpoint.base.name
        if unet.get("addition_embed_type") or checkpoint.config("text_encoder_2"):
            raise PrepError(f"{name} is a Stable Diffusion XL model.", _ELSE)
        if unet.get("use_linear_projection") or unet.get("cross_attention_dim") == 1024:
            raise PrepError(f"{name} is a Stable Diffusion 2.x model.", _ELSE)
        if unet.get("_class_name") != "UNet2DConditionModel" or len(vae.get("block_out_channels", [])) != 4:
            raise PrepError(f"{name} is not a Stable Diffusion 1.x model.", _ELSE)
        if unet.get("in_channels") != 4:
            raise PrepError(f"{name} takes {unet.get('in_channels')} channels: an inpainting model.", _ELSE)
        if unet.get("cross_attention_dim") != text.get("hidden_size"):
            raise PrepError(f"U-Net and text encoder of {name} do not belong together.", "Copy the base model anew.")

    def objective(self, checkpoint: Checkpoint, noise: Noise) -> DDPM:
        return ddpm(checkpoint.config("scheduler"), noise)

    def encode_pictures(self, vae: Any, pixels: torch.Tensor) -> Moments:
        latent = vae.encode(pixels).latent_dist
        return latent.mean, latent.std

    def normaliser(self, checkpoint: Checkpoint) -> Callable[[Moments], Moments]:
        scale = float(checkpoint.config("vae").get("scaling_factor", 0.18215))
        return lambda moments: (moments[0] * scale, moments[1] * scale)

    def encode_text(self, tokenizer: Any, encoder: Any, captions: list[str]) -> Condition:
        """{'text': (B, 77, width)}: CLIP's last layer, normalised; what is beyond the limit is cut off."""
        length = self.token_limit + 2
        tokens = tokenizer(captions, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return {"text": encoder(tokens.input_ids.to(encoder.device)).last_hidden_state}

    def too_long(self, tokenizer: Any, caption: str) -> bool:
        return len(tokenizer(caption).input_ids) > self.token_limit + 2

    def forward(self, model: Any, noisy: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        prediction: torch.Tensor = model(noisy, time, encoder_hidden_states=condition["text"], return_dict=False)[0]
        return prediction

    def probe(self, part: str, module: Any, tokenizer: Any) -> torch.Tensor:
        import torch

        with torch.no_grad():
            if part == "text_encoder":
                return self.encode_text(tokenizer, module, ["a photo of a man"])["text"]
            random = torch.Generator().manual_seed(0)
            noisy = torch.randn(1, 4, 16, 16, generator=random)  # in the middle 2 x 2: attention needs two to choose
            text = torch.randn(1, 77, module.config.cross_attention_dim, generator=random)
            return self.forward(module, noisy, torch.tensor([500]), {"text": text})
