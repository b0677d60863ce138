"""The training loop: cached tensors in, trained weights out. It knows no model family and no file."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from training.data.dataset import TrainingImage
from training.data.masks import masked_mean
from training.data.sampler import SampleRef, draw_noise, epoch_batches, seed_of
from training.models.family import size_of
from training.optim.optimizers import ParamGroup
from training.performance.prefetch import prefetch, to_device
from training.performance.step_runner import step_runner

if TYPE_CHECKING:
    import torch

    from training.distributed import DistributedContext
    from training.models.family import Condition, Family, Moments
    from training.objective import Objective
    from training.optim.train_state import TrainState
    from training.train import Train


@dataclass(frozen=True)
class TrainingJob:
    """All that a run trains with."""

    config: Train
    family: Family
    objective: Objective
    denoiser: Any
    samples: list[TrainingImage]
    latent: Callable[[SampleRef], Moments]  # mean and deviation, (1, C, h, w), of unit variance
    mask: Callable[[SampleRef], torch.Tensor | None]  # (1, 1, h, w): what of the image counts
    prompt: Callable[[SampleRef], str]
    condition: Callable[[list[str]], Condition]  # prompts to what the denoiser is told, on the device
    groups: list[ParamGroup]  # weights to train
    device: torch.device
    live_text: bool = False  # text encoders learn: prompts say something else after every step
    # Takes models from the device that steps can do without; False: there are none.
    offload: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Batch:
    """Images that are shown together, all tensors on the device and batch first."""

    draws: list[SampleRef]
    prompts: list[str]
    clean: torch.Tensor  # (B, C, h, w), as are the two noises
    noise: torch.Tensor  # what is to be predicted
    mixed: torch.Tensor  # what is mixed in
    timesteps: torch.Tensor  # (B,)
    prior: torch.Tensor  # (B,), the weight of regularization images
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


_TENSORS = ("clean", "noise", "mixed", "timesteps", "prior", "size")


@dataclass(frozen=True, slots=True)
class TrainedImages:
    """A batch that was shown: its draws, of all processes, and what this process found of its share."""

    draws: list[SampleRef]
    error: torch.Tensor  # of each image, unweighted, on the device
    weight: torch.Tensor  # how much it counted
    time: torch.Tensor  # of the noise, as the objective counts it


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """What a step did, and where the run stands after it."""

    number: int  # from 1
    total: int
    epoch: int  # from 1
    epoch_ends: bool
    shown: list[TrainedImages]
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


StepCallback = Callable[[TrainingStep], bool]  # is called after each step; True ends the run


def epoch_steps(config: Train, samples: list[TrainingImage], epoch: int) -> list[list[list[SampleRef]]]:
    """The steps of an epoch from 0, each a list of the batches that make it."""
    batches = epoch_batches(samples, epoch, config.batch_size, config.seed, config.incomplete_batch)
    if not batches:
        raise PrepError(
            f"No size has the {config.batch_size} images of a batch, so underfilled drop leaves none.",
            "Use a smaller batch, or: --incomplete-batch keep",
        )
    return [
        batches[at : at + config.gradient_accumulation_steps]
        for at in range(0, len(batches), config.gradient_accumulation_steps)
    ]


def count_steps(config: Train, samples: list[TrainingImage]) -> int:
    """The steps of the whole run: as given, or those of all epochs."""
    if config.steps:
        return config.steps
    return sum(len(epoch_steps(config, samples, epoch)) for epoch in range(config.epochs))


def train(job: TrainingJob, learner: TrainState, done: int, watchers: Sequence[StepCallback]) -> None:
    """Train the learner's weights in place, from after step `done` until the last or until a watcher ends it."""
    config, ranks, total = job.config, learner.distributed, count_steps(job.config, job.samples)
    steps = prefetch(_course(job, done, total), lambda step: _gather(job, step[3], ranks), job.device)
    with step_runner(job, errors, total - done) as study:
        for (number, epoch, ends, draws), batches in steps:
            rate = learner.set_learning_rates(number - 1, total)
            seed = seed_of(config.seed, "step", number, ranks.rank)  # of what draws inside the model
            found = study.step(batches, sum(map(len, draws)), seed)
            norm = learner.update(number - 1)
            shown = [
                TrainedImages(of, error, weight, batch.timesteps if batch else error)
                for of, (error, weight), batch in zip(draws, found, batches, strict=True)
            ]
            step = TrainingStep(number, total, epoch, ends, shown, rate, norm)
            answers = [watch(step) for watch in watchers]
            if any(answers):
                break


def _gather(job: TrainingJob, draws: list[list[SampleRef]], ranks: DistributedContext) -> list[Batch | None]:
    """This process's part of a step's batches; None of one with fewer images than there are processes."""
    shares = [ranks.share(batch) for batch in draws]
    return [make_batch(job, share) if share else None for share in shares]


def _course(job: TrainingJob, done: int, total: int) -> Iterator[tuple[int, int, bool, list[list[SampleRef]]]]:
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


def errors(job: TrainingJob, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The error of each image of a batch, and how much it counts, both (B,)."""
    noisy = job.objective.add_noise(batch.clean, batch.mixed, batch.timesteps)
    condition = job.condition(batch.prompts) if batch.condition is None else batch.condition
    prediction = job.family.forward(
        job.denoiser, noisy, job.objective.model_timestep(batch.timesteps), condition, batch.size
    )
    target = job.objective.target(batch.clean, batch.noise, batch.timesteps)
    error = masked_mean(job.objective.loss(prediction, target, batch.timesteps), batch.mask)
    return error, job.objective.weight(batch.timesteps) * batch.prior


def make_batch(job: TrainingJob, draws: list[SampleRef]) -> Batch:
    """The tensors of a batch: all that does not depend on the weights."""
    import torch

    config = job.config
    moments = [job.latent(draw) for draw in draws]
    shape = tuple(moments[0][0].shape[1:])
    chances = [draw_noise(draw, job.objective, shape, (config.seed, config)) for draw in draws]
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
        clean=to_device(torch.cat(clean), job.device),
        noise=to_device(torch.cat([c.noise for c in chances]), job.device),
        mixed=to_device(torch.cat([c.mixed for c in chances]), job.device),
        timesteps=to_device(torch.cat([c.time for c in chances]), job.device),
        prior=to_device(prior, job.device),
        size=to_device(size, job.device),
        mask=None if all(mask is None for mask in masks) else to_device(counts, job.device),
        condition=None if job.live_text else job.condition(prompts),
    )
