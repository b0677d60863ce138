"""The training loop: cached tensors in, trained weights out. It knows no model family and no file."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from training.draws import Draw, all_batches, chance, epoch_batches
from training.families.family import size_of
from training.masks import masked_mean
from training.optimizers import Group, make_optimizer
from training.rates import share
from training.samples import Sample

if TYPE_CHECKING:
    import torch

    from pipeline.stage import Report
    from training.families.family import Condition, Family, Moments
    from training.objective import Objective
    from training.train import Train

_LOOK_EVERY = 25  # steps between looks at the losses: each look waits for the device


@dataclass(frozen=True)
class Job:
    """All that a run trains with."""

    config: Train
    family: Family
    objective: Objective
    denoiser: Any
    samples: list[Sample]
    latent: Callable[[Draw], Moments]  # mean and deviation, (1, C, h, w), of unit variance
    mask: Callable[[Draw], torch.Tensor | None]  # (1, 1, h, w): what of the picture counts
    prompt: Callable[[Draw], str]
    condition: Callable[[list[str]], Condition]  # prompts to what the denoiser is told, on the device
    groups: list[Group]  # weights to train
    device: torch.device


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures that are shown together, all tensors on the device and batch first."""

    draws: list[Draw]
    prompts: list[str]
    clean: torch.Tensor  # (B, C, h, w), as are the two noises
    noise: torch.Tensor  # what is to be predicted
    mixed: torch.Tensor  # what is mixed in
    time: torch.Tensor  # (B,)
    prior: torch.Tensor  # (B,), the weight of regularization pictures
    size: torch.Tensor  # (B, 6), see size_of
    mask: torch.Tensor | None  # (B, 1, h, w)


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
    kind = config.underfilled
    return sum(len(epoch_batches(samples, epoch, config.batch, config.seed, kind)) for epoch in range(config.epochs))


def train(job: Job, report: Report) -> list[Row]:
    """Train the job's weights in place; one row per step.

    PrepError, with the ids of the batch, when a loss is not finite.
    """
    import torch

    config = job.config
    total = count_steps(config, job.samples)
    optimizer = make_optimizer(job.groups, config)
    weights = [weight for group in job.groups for weight in group.weights.values()]
    losses = torch.zeros(total, config.batch, device=job.device)
    steps: list[tuple[int, list[Draw], float]] = []

    batches = itertools.islice(all_batches(job.samples, config.batch, config.seed, config.underfilled), total)
    for step, (epoch, draws) in enumerate(batches):
        factor = share(config.scheduler, step, total, config.warmup)
        for group, known in zip(optimizer.param_groups, job.groups, strict=True):
            group["lr"] = known.pace(step) if known.pace else known.rate * factor

        error, weight = errors(job, prepare(job, draws))
        loss = (error * weight).mean()

        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()

        losses[step, : len(draws)] = error.detach()
        steps.append((epoch, draws, float(optimizer.param_groups[0]["lr"])))
        if (step + 1) % _LOOK_EVERY == 0 or step + 1 == total:
            _look(losses, steps, step + 1 - (step % _LOOK_EVERY + 1))
        report(step + 1, total)
    return _rows(losses, steps)


def errors(job: Job, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The error of each picture of a batch, and how much it counts, both (B,)."""
    import torch

    noisy = job.objective.mix(batch.clean, batch.mixed, batch.time)
    with torch.autocast(job.device.type, torch.bfloat16, enabled=job.config.half(job.device)):
        condition = job.condition(batch.prompts)
        prediction = job.family.forward(
            job.denoiser, noisy, job.objective.model_time(batch.time), condition, batch.size
        )
    target = job.objective.target(batch.clean, batch.noise, batch.time)
    error = masked_mean(job.objective.loss(prediction, target, batch.time), batch.mask)
    return error, job.objective.weight(batch.time) * batch.prior


def prepare(job: Job, draws: list[Draw]) -> Batch:
    """The tensors of a batch: all that does not depend on the weights."""
    import torch

    config = job.config
    moments = [job.latent(draw) for draw in draws]
    shape = tuple(moments[0][0].shape[1:])
    chances = [chance(draw, job.objective, shape, (config.seed, config)) for draw in draws]
    clean = [mean + std * c.posterior for (mean, std), c in zip(moments, chances, strict=True)]
    prior = torch.tensor([config.prior_loss_weight if draw.sample.reg else 1.0 for draw in draws])
    masks = [job.mask(draw) for draw in draws]
    whole = torch.ones(1, 1, *shape[1:])
    return Batch(
        draws=draws,
        prompts=[job.prompt(draw) for draw in draws],
        clean=torch.cat(clean).to(job.device),
        noise=torch.cat([c.noise for c in chances]).to(job.device),
        mixed=torch.cat([c.mixed for c in chances]).to(job.device),
        time=torch.cat([c.time for c in chances]).to(job.device),
        prior=prior.to(job.device),
        size=torch.tensor([size_of(draw.sample) for draw in draws], dtype=torch.float32).to(job.device),
        mask=None
        if all(mask is None for mask in masks)
        else torch.cat([whole if mask is None else mask for mask in masks]).to(job.device),
    )


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
