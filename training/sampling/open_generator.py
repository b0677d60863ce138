"""Opens a generator for a base model on disk, with nothing loaded yet but its configuration and tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from training.models.families import detect_family
from training.models.loader import open_base_model
from training.options.objective import ObjectiveOptions
from training.sampling.image_generator import ImageGenerator
from training.sampling.parts_on_demand import PartsOnDemand, compute_device, denoiser_dtype

if TYPE_CHECKING:
    from training.models.base_model import BaseFiles
    from training.sampling.parts_on_demand import Precision


def open_generator(base: BaseFiles, cache: Path, precision: Precision = "auto") -> ImageGenerator:
    """A generator on the GPU if there is one; `cache` is where the configuration of a single file goes."""
    checkpoint = open_base_model(base, cache)
    family = detect_family(checkpoint)
    device = compute_device()
    parts = PartsOnDemand(family, checkpoint, device, denoiser_dtype(family, precision, device))
    objective = family.objective(checkpoint, ObjectiveOptions())
    return ImageGenerator.build(checkpoint, family, parts, checkpoint.tokenizers(), objective)
