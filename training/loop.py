"""The training loop: cached tensors in, trained weights out. It knows no model family and no file."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from training.draws import Draw, chance, epoch_batches, seed_of
from training.families.family import size_of
from training.masks import masked_mean
from training.optimizers import Group
from training.samples import Sample

if TYPE_CHECKING:
    import torch

    from training.families.family import Condition, Family, Moments
    from training.learner import Learner
    from training.objective import Objective
    from training.train import Train


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
class Shown:
    """A batch that was shown: its draws, of all processes, and what this process found of its share."""

    draws: list[Draw]
    error: torch.Tensor  # of each picture, unweighted, on the device
    weight: torch.Tensor  # how much it counted


@dataclass(frozen=True, slots=True)
class Step:
    """What a step did, and where the run stands after it."""

    number: int  # from 1
    total: int
    epoch: int  # from 1
    epoch_ends: bool
    shown: list[Shown]
    rate: float  # of the first group
    norm: torch.Tensor  # of the gradient, before it was clipped

    @property
    def last(self) -> bool:
        return self.number == self.total

    def due(self, every_steps: int, every_epochs: int) -> bool:
        """Whether it is time for what is done every so many steps, every so many epochs, and at the end."""
        by_step = every_steps > 0 and self.number % every_steps == 0
        by_epoch = every_epochs > 0 and self.epoch_ends and self.epoch % every_epochs == 0
        return by_step or by_epoch or self.last


Watcher = Callable[[Step], bool]  # is called after each step; True ends the run


def epoch_steps(config: Train, samples: list[Sample], epoch: int) -> list[list[list[Draw]]]:
    """The steps of an epoch from 0, each a list of the batches that make it."""
    batches = epoch_batches(samples, epoch, config.batch, config.seed, config.underfilled)
    if not batches:
        raise PrepError(
            f"No size has the {config.batch} pictures of a batch, so underfilled drop leaves none.",
            "Use a smaller batch, or: --underfilled smaller",
        )
    return [batches[at : at + config.accumulate] for at in range(0, len(batches), config.accumulate)]


def count_steps(config: Train, samples: list[Sample]) -> int:
    """The steps of the whole run: as given, or those of all epochs."""
    if config.steps:
        return config.steps
    return sum(len(epoch_steps(config, samples, epoch)) for epoch in range(config.epochs))


def train(job: Job, learner: Learner, done: int, watchers: Sequence[Watcher]) -> None:
    """Train the learner's weights in place, from after step `done` until the last or until a watcher ends it."""
    import torch

    config, ranks, total = job.config, learner.ranks, count_steps(job.config, job.samples)
    for number, epoch, ends, batches in _course(job, done, total):
        torch.manual_seed(seed_of(config.seed, "step", number, ranks.number))  # of what draws inside the model
        rate = learner.pace(number - 1, total)
        pictures = sum(len(draws) for draws in batches)
        shown = []
        for draws in batches:
            shown.append(Shown(draws, *_study(job, ranks.share(draws), pictures)))
        norm = learner.update(number - 1)
        step = Step(number, total, epoch, ends, shown, rate, norm)
        answers = [watch(step) for watch in watchers]
        if any(answers):
            break


def _study(job: Job, draws: list[Draw], pictures: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Add to the gradients what a batch teaches, one part of the step's `pictures`; its errors and weights."""
    import torch

    if not draws:  # a batch with fewer pictures than there are processes
        return torch.zeros(0, device=job.device), torch.zeros(0, device=job.device)
    error, weight = errors(job, prepare(job, draws))
    loss = (error * weight).sum() / pictures
    loss.backward()  # type: ignore[no-untyped-call]
    return error.detach(), weight


def _course(job: Job, done: int, total: int) -> Iterator[tuple[int, int, bool, list[list[Draw]]]]:
    """The steps after `done`: number, epoch from 1, whether the epoch ends with it, and its batches."""
    number = 0
    for epoch in itertools.count():
        steps = epoch_steps(job.config, job.samples, epoch)
        for left, batches in zip(range(len(steps) - 1, -1, -1), steps, strict=True):
            number += 1
            if number > done:
                yield number, epoch + 1, left == 0, batches
            if number == total:
                return


def errors(job: Job, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The error of each picture of a batch, and how much it counts, both (B,)."""
    noisy = job.objective.mix(batch.clean, batch.mixed, batch.time)
    condition = job.condition(batch.prompts)
    prediction = job.family.forward(job.denoiser, noisy, job.objective.model_time(batch.time), condition, batch.size)
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
