"""The table of model families, and what is derived from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from training.models.family import Part
from training.models.sd1 import SD1
from training.models.sd2 import SD2
from training.models.sd35 import SD35
from training.models.sdxl import SDXL

if TYPE_CHECKING:
    from training.models.architecture_config import LdmLayout
    from training.models.family import Family, ModelConfigs

# A base model is of the first family that it matches.
FAMILIES: tuple[Family, ...] = (SD1(), SD2(), SDXL(), SD35())


def detect_family(checkpoint: ModelConfigs) -> Family:
    """The family of a model; PrepError when it is of none, or a part is missing or does not fit the others."""
    for family in FAMILIES:
        if family.matches(checkpoint):
            return family
    classes = [checkpoint.config(part).get("_class_name", "") for part in denoisers()]
    found = (
        f"its denoiser is a {next(filter(None, classes))}" if any(classes) else "it has neither unet nor transformer"
    )
    raise PrepError(f"{checkpoint.name} is of no model family that prep trains: {found}.", f"prep trains {titles()}.")


def titles() -> str:
    """The families' titles, for a sentence."""
    *first, last = (family.title for family in FAMILIES)
    return f"{', '.join(first)} and {last}" if first else last


def denoisers() -> tuple[str, ...]:
    """The names that denoisers have: unet, transformer."""
    return tuple(dict.fromkeys(family.denoiser for family in FAMILIES))


def base_parts() -> dict[str, Part]:
    """The parts that base models have, in the order in which their weights are hashed.

    Denoisers, the VAE, text encoders. A part of several families may have the classes of each.
    """
    merged: dict[str, Part] = {}
    for family in FAMILIES:
        for name, part in family.parts.items():
            known = merged.get(name, part)
            merged[name] = Part(tuple(dict.fromkeys(known.classes + part.classes)), part.weights, part.tokenizer)
    first = [*denoisers(), "vae"]
    return {name: merged[name] for name in (*first, *sorted(merged.keys() - set(first)))}


def single_file_layouts() -> list[tuple[Family, LdmLayout]]:
    """The families whose models are also read from one file, with the layout of that."""
    return [(family, family.single_file) for family in FAMILIES if family.single_file]
