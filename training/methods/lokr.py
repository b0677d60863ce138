"""LoKr: the Kronecker product of a small matrix and a low-rank one (https://arxiv.org/abs/2309.14859, section 3)."""

from __future__ import annotations

from training.methods.adapter_method import ADAPTER_OPTIONS, CONV_OPTIONS, AdapterMethod
from training.methods.lora_variants import AdapterType, start_uniform, start_zero

_STARTS = {
    "lokr_w1": start_uniform,
    "lokr_w2": start_zero,  # where it is small enough for a full matrix, else:
    "lokr_w2_a": start_uniform,
    "lokr_w2_b": start_zero,
}

LOKR = AdapterMethod(
    name="lokr",
    type=AdapterType(
        network="lycoris.kohya",
        peft_config="LoKrConfig",
        initializers=_STARTS,
        names={name: name for name in (*_STARTS, "lokr_w1_a", "lokr_w1_b", "lokr_t2")},
        network_args={"algo": "lokr"},
        factor_name="decompose_factor",
    ),
    options=ADAPTER_OPTIONS | CONV_OPTIONS | {"factor"},
)
