"""The training loop: cached tensors in, trained weights out. It knows no model family and no file."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from training.data.dataset import Sample
from training.data.masks import masked_mean
from training.data.sampler import Draw, chance, epoch_batches, seed_of
from training.models.family import size_of
from training.optim.optimizers import Group
from training.performance.prefetch import ahead, sent
from training.performance.step_runner import studying

if TYPE_CHECKING:
    import torch

    from training.distributed import Ranks
    from training.models.family import Condition, Family, Moments
    from training.objective import Objective
    from training.optim.train_state import Learner
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
    live_text: bool = False  # text encoders learn: prompts say something else after every step
    # Takes models from the device that steps can do without; False: there are none.
    spare: Callable[[], bool] = lambda: False


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
    condition: Condition | None = None  # what the prompts say, where that can be known ahead

    def __len__(self) -> int:
        return len(self.draws)

    def tensors(self) -> dict[str, torch.Tensor]:
        """All tensors by name."""
        found = {name: getattr(self, name) for name in _TENSORS}
        found |= {f"condition.{name}": value for name, value in (self.condition or {}).items()}
        return found if self.mask is None else found | {"mask": self.mask}

    def replaced(self, tensors: dict[str, torch.Tensor]) -> Batch:
        """The same batch with other tensors, named as `tensors` names them."""
        told = {name: tensors[f"condition.{name}"] for name in self.condition or {}}
        own: dict[str, Any] = {name: value for name, value in tensors.items() if not name.startswith("condition.")}
        return dataclasses.replace(self, condition=told or None, **own)

    def split(self, parts: int) -> list[Batch]:
        """The batch in at most so many smaller ones."""
        size = -(-len(self) // parts)
        if size == len(self):
            return [self]
        return [self._part(slice(at, at + size)) for at in range(0, len(self), size)]

    def _part(self, which: slice) -> Batch:
        own = self.replaced({name: value[which] for name, value in self.tensors().items()})
        return dataclasses.replace(own, draws=self.draws[which], prompts=self.prompts[which])


_TENSORS = ("clean", "noise", "mixed", "time", "prior", "size")


@dataclass(frozen=True, slots=True)
class Shown:
    """A batch that was shown: its draws, of all processes, and what this process found of its share."""

    draws: list[Draw]
    error: torch.Tensor  # of each picture, unweighted, on the device
    weight: torch.Tensor  # how much it counted
    time: torch.Tensor  # of the noise, as the objective counts it


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
    config, ranks, total = job.config, learner.ranks, count_steps(job.config, job.samples)
    steps = ahead(_course(job, done, total), lambda step: _gather(job, step[3], ranks), job.device)
    with studying(job, errors, total - done) as study:
        for (number, epoch, ends, draws), batches in steps:
            rate = learner.pace(number - 1, total)
            seed = seed_of(config.seed, "step", number, ranks.number)  # of what draws inside the model
            found = study.step(batches, sum(map(len, draws)), seed)
            norm = learner.update(number - 1)
            shown = [
                Shown(of, error, weight, batch.time if batch else error)
                for of, (error, weight), batch in zip(draws, found, batches, strict=True)
            ]
            step = Step(number, total, epoch, ends, shown, rate, norm)
            answers = [watch(step) for watch in watchers]
            if any(answers):
                break


def _gather(job: Job, draws: list[list[Draw]], ranks: Ranks) -> list[Batch | None]:
    """This process's part of a step's batches; None of one with fewer pictures than there are processes."""
    shares = [ranks.share(batch) for batch in draws]
    return [prepare(job, share) if share else None for share in shares]


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
    condition = job.condition(batch.prompts) if batch.condition is None else batch.condition
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
    size = torch.tensor([size_of(draw.sample) for draw in draws], dtype=torch.float32)
    counts = torch.cat([mask if mask is not None else whole for mask in masks])
    prompts = [job.prompt(draw) for draw in draws]
    return Batch(
        draws=draws,
        prompts=prompts,
        clean=sent(torch.cat(clean), job.device),
        noise=sent(torch.cat([c.noise for c in chances]), job.device),
        mixed=sent(torch.cat([c.mixed for c in chances]), job.device),
        time=sent(torch.cat([c.time for c in chances]), job.device),
        prior=sent(prior, job.device),
        size=sent(size, job.device),
        mask=None if all(mask is None for mask in masks) else sent(counts, job.device),
        condition=None if job.live_text else job.condition(prompts),
    )
