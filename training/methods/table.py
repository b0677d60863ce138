"""The training methods by name: the values of --method."""

from __future__ import annotations

from training.methods.dora import DORA
from training.methods.dreambooth import DREAMBOOTH
from training.methods.locon import LOCON
from training.methods.loha import LOHA
from training.methods.lokr import LOKR
from training.methods.lora import LORA
from training.methods.method import MethodSpec
from training.methods.textual_inversion import TEXTUAL_INVERSION

METHODS: dict[str, MethodSpec] = {
    "lora": LORA,
    "locon": LOCON,
    "loha": LOHA,
    "lokr": LOKR,
    "dora": DORA,
    "dreambooth": DREAMBOOTH,
    "textual-inversion": TEXTUAL_INVERSION,
}
