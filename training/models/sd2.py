"""Stable Diffusion 2.x: as 1.x, but conditioned on OpenCLIP's ViT-H; its models of 768 pixels predict v."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from training.models.architecture_config import ArchitectureConfig, LdmLayout, TextEncoderConfig
from training.models.clip_text import refuse_clip_skip
from training.models.sd1 import SD1, is_v2
from training.models.validate import check_complete, check_width, unet_of

if TYPE_CHECKING:
    from training.models.family import ModelConfigs, TextSettings


class SD2(SD1):
    """Stateless; `Family` describes the members.

    Its models were trained with the last layer but one of the text encoder; diffusers' models leave out the last.
    """

    name: ClassVar[str] = "sd_v2"
    title: ClassVar[str] = "Stable Diffusion 2.x"
    control_models: ClassVar[str] = "sd2"
    architecture: ClassVar[str] = "stable-diffusion-v2/lora"
    kohya_v2: ClassVar[bool] = True
    clip_skips: ClassVar[bool] = False
    single_file: ClassVar[LdmLayout | None] = LdmLayout(
        ArchitectureConfig(
            unet_heads=0,
            linear_projection=True,
            sample_size_v=96,  # latents of 768 pixels
            texts=(TextEncoderConfig(1024, 23, "gelu", pad="!"),),
        ),
        ("cond_stage_model.model.",),
        unused_layer=True,
        prediction="unknown",  # its models of both kinds have the same shapes
    )
    default_size: ClassVar[int] = 768

    def matches(self, checkpoint: ModelConfigs) -> bool:
        unet = unet_of(checkpoint)
        if unet.get("addition_embed_type") or not (unet.get("use_linear_projection") or is_v2(unet)):
            return False
        check_complete(self, checkpoint, 4)
        check_width(checkpoint, unet.get("cross_attention_dim"), checkpoint.config("text_encoder").get("hidden_size"))
        return True

    def check_text(self, settings: TextSettings) -> None:
        refuse_clip_skip(settings, self.title)
