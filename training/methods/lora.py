"""LoRA: the product of two low-rank matrices is added to each linear layer (https://arxiv.org/abs/2106.09685)."""

from __future__ import annotations

from training.methods.adapter_method import ADAPTER_OPTIONS, CONV_OPTIONS, AdapterMethod
from training.methods.lora_variants import AdapterType, start_uniform, start_zero

LORA_TYPE = AdapterType(
    network="networks.lora",
    peft_config="LoraConfig",
    initializers={"lora_A.weight": start_uniform, "lora_B.weight": start_zero},
    names={"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight"},
    in_diffusers=True,
)

LORA = AdapterMethod(
    name="lora",
    type=LORA_TYPE,
    options=ADAPTER_OPTIONS | {"loraplus_lr_ratio", "network_dropout"},
    hints=dict.fromkeys(CONV_OPTIONS, "To adapt convolutions too, use: --method locon"),
    usual_rank=64,
)
