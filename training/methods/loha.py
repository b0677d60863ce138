"""LoHa: the element-wise product of two LoRA products (https://arxiv.org/abs/2108.06098)."""

from __future__ import annotations

from training.methods.adapter_method import ADAPTER_OPTIONS, CONV_OPTIONS, AdapterMethod
from training.methods.lora_variants import AdapterType, start_normal, start_zero

# As LyCORIS starts them: (w1_a w1_b) * (w2_a w2_b). With peft's smaller start little is learned at the usual rates.
_STARTS = {
    "hada_w1_a": start_normal(0.1),
    "hada_w1_b": start_normal(1.0),
    "hada_w2_a": start_zero,
    "hada_w2_b": start_normal(1.0),
}

LOHA = AdapterMethod(
    name="loha",
    type=AdapterType(
        network="lycoris.kohya",
        peft_config="LoHaConfig",
        initializers=_STARTS,
        names={name: name for name in (*_STARTS, "hada_t1", "hada_t2")},
        network_args={"algo": "loha"},
    ),
    options=ADAPTER_OPTIONS | CONV_OPTIONS,
    usual_rank=32,
)
