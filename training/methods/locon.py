"""LoCon: LoRA on convolutions too (https://arxiv.org/abs/2309.14859, section 3)."""

from __future__ import annotations

from training.methods.adapter_method import ADAPTER_OPTIONS, CONV_OPTIONS, AdapterMethod
from training.methods.lora import LORA_TYPE

LOCON = AdapterMethod(
    name="locon",
    type=LORA_TYPE,
    options=ADAPTER_OPTIONS | CONV_OPTIONS | {"loraplus_lr_ratio", "network_dropout"},
    usual_rank=12,
    adapts_convolutions=True,
)
