"""The training loop: cached tensors in, trained adapters out. It knows no model family and no file."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from training.draws import Draw, all_batches, chance, epoch_batches
from training.rates import share
from training.samples import Sample

if TYPE_CHECKING:
    import torch

    from pipeline.stage import Report
    from training.families.family import Condition, Family
    from training.objective import Objective
    from training.train import Train

_LOOK_EVERY = 25  # steps between looks at the losses: each look waits for the device


@dataclass(frozen=True)
class Job:
    """All that a run trains with."""

    config: Train
    family: Family
    objective: Objective
    unet: Any
    samples: list[Sample]
    latent: Callable[[Sample], tuple[torch.Tensor, torch.Tensor]]  # mean and deviation, of unit variance
    condition: Callable[[list[str]], Condition]  # captions to what the U-Net is told
    groups: list[tuple[list[torch.Tensor], float]]  # weights to train, and their full learning rate
    device: torch.device


@dataclass(frozen=True, slots=True)
class Row:
    """What a step did."""

    step: int  # from 1
    epoch: int  # from 1
    loss: float | None  # mean squared error over the step's subject pictures, unweighted
    prior_loss: float | None  # the same over its regularization pictures
    learning_rate: float  # of the first group
    width: int
    height: int
    ids: list[str]


def count_steps(config: Train, samples: list[Sample]) -> int:
    """The steps of the whole run: as given, or those of all epochs."""
    if config.steps:
        return config.steps
    return sum(len(epoch_batches(samples, epoch, config.batch, config.seed)) for epoch in range(config.epochs))


def train(job: Job, report: Report) -> list[Row]:
    """Train the job's weights in place; one row per step.

    PrepError, with the ids of the batch, when a loss is not finite.
    """
    import torch

    config = job.config
    total = count_steps(config, job.samples)
    optimizer = torch.optim.AdamW([{"params": weights, "lr": rate} for weights, rate in job.groups], weight_decay=0.01)
    weights = [weight for group, _ in job.groups for weight in group]
    losses = torch.zeros(total, config.batch, device=job.device)
    steps: list[tuple[int, list[Draw], float]] = []

    batches = itertools.islice(all_batches(job.samples, config.batch, config.seed), total)
    for step, (epoch, batch) in enumerate(batches):
        factor = share(config.scheduler, step, total, config.warmup)
        for group, (_, rate) in zip(optimizer.param_groups, job.groups, strict=True):
            group["lr"] = rate * factor

        error, weight = errors(job, batch)
        loss = (error * weight).mean()

        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()

        losses[step, : len(batch)] = error.detach()
        steps.append((epoch, batch, job.groups[0][1] * factor))
        if (step + 1) % _LOOK_EVERY == 0 or step + 1 == total:
            _look(losses, steps, step + 1 - (step % _LOOK_EVERY + 1))
        report(step + 1, total)
    return _rows(losses, steps)


def errors(job: Job, batch: list[Draw]) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean squared error of each picture of a batch, and how much it counts, both (B,)."""
    import torch

    clean, noise, mixed, time, prior = _tensors(job, batch)
    noisy = job.objective.mix(clean, mixed, time)
    with torch.autocast(job.device.type, torch.bfloat16, enabled=job.config.half(job.device)):
        condition = job.condition([draw.sample.caption for draw in batch])
        prediction = job.family.forward(job.unet, noisy, job.objective.model_time(time), condition)
    error = job.objective.loss(prediction, job.objective.target(clean, noise, time), time).mean((1, 2, 3))
    return error, job.objective.weight(time) * prior


def _tensors(job: Job, batch: list[Draw]) -> tuple[torch.Tensor, ...]:
    """Clean latents, noise to predict and noise to mix in, times and weights of a batch, on the device."""
    import torch

    config = job.config
    moments = [job.latent(draw.sample) for draw in batch]
    shape = tuple(moments[0][0].shape[1:])
    chances = [chance(draw, job.objective, shape, (config.seed, config)) for draw in batch]
    clean = torch.cat([mean + std * c.posterior for (mean, std), c in zip(moments, chances, strict=True)])
    noise = torch.cat([c.noise for c in chances])
    mixed = torch.cat([c.mixed for c in chances])
    time = torch.cat([c.time for c in chances])
    prior = torch.tensor([config.prior_loss_weight if draw.sample.reg else 1.0 for draw in batch])
    return tuple(value.to(job.device) for value in (clean, noise, mixed, time, prior))


def _look(losses: torch.Tensor, steps: list[tuple[int, list[Draw], float]], first: int) -> None:
    """Stop at the first step since `first` whose loss is not finite."""
    for step, row in enumerate(losses[first : len(steps)].tolist(), first):
        if not all(map(math.isfinite, row)):
            ids = ", ".join(draw.sample.id for draw in steps[step][1])
            raise PrepError(
                f"The loss of step {step + 1} is not finite; its batch holds the records {ids}.",
                "Lower the learning rate, or look at these pictures and captions with: prep preview",
            )


def _rows(losses: torch.Tensor, steps: list[tuple[int, list[Draw], float]]) -> list[Row]:
    rows = []
    for step, (found, (epoch, batch, rate)) in enumerate(zip(losses.tolist(), steps, strict=True)):
        pairs = list(zip(found, batch, strict=False))
        rows.append(
            Row(
                step=step + 1,
                epoch=epoch + 1,
                loss=_mean([loss for loss, draw in pairs if not draw.sample.reg]),
                prior_loss=_mean([loss for loss, draw in pairs if draw.sample.reg]),
                learning_rate=rate,
                width=batch[0].sample.width,
                height=batch[0].sample.height,
                ids=[draw.sample.id for draw in batch],
            )
        )
    return rows


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
