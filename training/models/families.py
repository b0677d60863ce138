"""The families that prep trains, and which of them a base model is of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from training.models.sd1 import SD1
from training.models.sd2 import SD2
from training.models.sd35 import SD35
from training.models.sdxl import SDXL

if TYPE_CHECKING:
    from training.models.family import Family
    from training.models.loader import BaseModel

FAMILIES: tuple[Family, ...] = (SD1(), SD2(), SDXL(), SD35())


def detect_family(checkpoint: BaseModel) -> Family:
    """The model's family; PrepError when prep trains none such, or a part of the model is missing or wrong."""
    for family in FAMILIES:
        if family.matches(checkpoint):
            return family
    kinds = [checkpoint.config(part).get("_class_name", "") for part in ("unet", "transformer")]
    what = f"its denoiser is a {next(filter(None, kinds))}" if any(kinds) else "it has neither unet nor transformer"
    *first, last = (family.title for family in FAMILIES)
    raise PrepError(
        f"{checkpoint.base.name} is of no family that prep trains: {what}.", f"It trains {', '.join(first)} and {last}."
    )
