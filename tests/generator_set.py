"""Generators on small base models, for tests of sampling."""

from __future__ import annotations

import functools

import numpy as np
import torch

from pipeline.workspace import Workspace
from tests.training_set import checkpoint, narrow, shared
from training.models.families import detect_family
from training.options.objective import ObjectiveOptions
from training.sampling.image_generator import ImageGenerator
from training.sampling.parts_on_demand import LoadedParts
from training.sampling.settings import ImageSettings

SMALL = {"size": "64x64", "steps": 4, "rng": "cpu", "seed": 0}


@functools.cache
def generator(kind: str) -> ImageGenerator:
    """A generator on the narrow model of a family, with all parts loaded."""
    made = checkpoint(Workspace(shared()), str(narrow(kind)))
    family = detect_family(made)
    modules = {part: made.load(part) for part in (family.denoiser, "vae", *made.encoders())}
    parts = LoadedParts(modules, torch.device("cpu"))
    return ImageGenerator.build(made, family, parts, made.tokenizers(), family.objective(made, ObjectiveOptions()))


def settings(prompt: str, **values: object) -> ImageSettings:
    return ImageSettings.of(prompt, SMALL | values)


def arrays(made: ImageGenerator, *wanted: ImageSettings, batch_size: int = 1) -> list[np.ndarray]:
    """The pixels of images, as whole numbers that may be subtracted."""
    images = made.generate(made.plan(list(wanted)), batch_size, lambda done, total: None)
    return [np.asarray(image).astype(int) for image in images]
