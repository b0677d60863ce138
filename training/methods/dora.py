"""DoRA: LoRA with a separately trained magnitude for each output (https://arxiv.org/abs/2402.09353)."""

from __future__ import annotations

from training.methods.adapter_method import ADAPTER_OPTIONS, CONV_OPTIONS, AdapterMethod
from training.methods.lora import LORA_TYPE
from training.methods.lora_variants import AdapterType, start_row_norms

# The magnitudes of thousands of rows against each other: bfloat16 rounds them by up to 0.4 %.
DORA = AdapterMethod(
    name="dora",
    type=AdapterType(
        network="lycoris.kohya",
        peft_config="LoraConfig",
        peft_options={"use_dora": True},
        initializers={**LORA_TYPE.initializers, "lora_magnitude_vector.weight": start_row_norms},
        names={**LORA_TYPE.names, "lora_magnitude_vector.weight": "dora_scale"},
        network_args={"algo": "lora", "dora_wd": "True"},
        in_diffusers=True,
        fp32=True,
    ),
    options=ADAPTER_OPTIONS | CONV_OPTIONS | {"loraplus_lr_ratio"},
)
