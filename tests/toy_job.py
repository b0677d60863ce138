"""A job without a model for the tests of the loop: a number that learns to undo noise."""

from __future__ import annotations

import torch

from tests.training_options import train_options
from training.batch import TrainingJob
from training.models.family import CompiledBlocks
from training.objective import ddpm
from training.optim.optimizers import ParamGroup

SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
CPU = torch.device("cpu")


class Toy:
    """A family whose model multiplies the noisy latent by a number, and adds terms for the caption and the timestep."""

    compiled_blocks = CompiledBlocks(())

    def forward(self, model, noisy, time, condition, size):
        return model * noisy + condition["text"].view(-1, 1, 1, 1) + time.view(-1, 1, 1, 1) / 1000


def job(samples, schedule=None, **options) -> TrainingJob:
    """A job with the toy family; a sample's latent is made of its id."""
    weight = torch.tensor(0.5, requires_grad=True)

    def latent(draw):
        stream = torch.Generator().manual_seed(int(draw.image.id, 16))
        mean = torch.randn(1, 4, draw.image.height // 8, draw.image.width // 8, generator=stream)
        return mean, torch.full_like(mean, 0.1)

    config = train_options(**{"learning_rate": 1e-2, "batch_size": 3, "save_every_epochs": 0} | options)
    return TrainingJob(
        config=config,
        family=Toy(),
        objective=ddpm(SCHEDULE | (schedule or {}), config.objective),
        denoiser=weight,
        samples=samples,
        latent=latent,
        mask=lambda draw: None,
        prompt=lambda draw: draw.image.caption,
        encode_prompts=lambda captions: {"text": torch.tensor([float(len(caption)) / 100 for caption in captions])},
        param_groups=[ParamGroup("toy", {"weight": weight}, config.optimizer.learning_rate)],
        device=CPU,
    )


def optimizer_step(state, step=0):
    """What the trainer does with the gradients of a step; returns their norm before clipping."""
    state.reduce_gradients()
    norm = state.clip_gradients()
    state.optimizer.step()
    state.update_ema(step)
    state.sync_params()
    return norm
