"""A base made ready to learn by one method, without images: for the tests of methods that are no adapters."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.toy_job import optimizer_step
from tests.training_options import train_options
from tests.training_set import checkpoint, narrow, sample
from training.distributed import DistributedContext
from training.methods.default_lr import with_default_lr
from training.methods.method import MethodContext
from training.methods.table import METHODS
from training.models.families import detect_family
from training.models.family import TextSettings
from training.optim.train_state import make_train_state

IMAGES = [sample(1), sample(2)]
WIDTHS = {"sd1": {"text_encoder": 64}, "sdxl": {"text_encoder": 64, "text_encoder_2": 96}}
WIDTHS |= {"sd2": {"text_encoder": 64}, "sd35": WIDTHS["sdxl"]}


def materials(work, kind="sd1", samples=IMAGES, former=None, **options) -> MethodContext:
    """A narrow base, all of whose parts that the options give a rate are loaded."""
    model = checkpoint(work, kind if kind == "mini" or Path(kind).is_dir() else str(narrow(kind)))
    family = detect_family(model)
    config = train_options(**{"precision": "fp32", "device": "cpu"} | options)
    method = METHODS[config.method.method]
    config = with_default_lr(config, method.default_lr, model, family)
    rates = method.learning_rates(config, family)
    modules = {part: model.load(part) for part in rates}
    return MethodContext(config, family, model, modules, model.tokenizers(), rates, samples, torch.float32, former)


def trainee(found: MethodContext):
    return METHODS[found.config.method.method].start(found)


def encoders(found: MethodContext) -> dict[str, object]:
    """The text encoders, learning or not."""
    return {part: found.modules.get(part) or found.checkpoint.load(part) for part in found.checkpoint.encoders()}


def losses(found: MethodContext, made, steps: int, prompt="a photo of smith") -> list[float]:
    """Train on one batch whose noise never changes; the loss at each step."""
    torch.manual_seed(0)
    denoiser = found.modules.get(found.family.denoiser) or found.checkpoint.load(found.family.denoiser)
    channels = denoiser.config.in_channels
    noisy, target = torch.randn(1, channels, 8, 8), torch.randn(1, channels, 8, 8)
    reported, size, told_of = torch.tensor([500]), torch.zeros(1, 6), encoders(found)
    learner = make_train_state(made.param_groups(), found.config.optimizer, DistributedContext())
    errors = []
    for step in range(steps):
        learner.set_learning_rates(step, steps)
        condition = found.family.encode_text(found.tokenizers, told_of, [prompt], TextSettings())
        loss = (found.family.forward(denoiser, noisy, reported, condition, size) - target).square().mean()
        loss.backward()
        optimizer_step(learner, step)
        errors.append(float(loss.detach()))
    return errors
