"""The training loop: cached tensors in, trained weights out. It knows no model family and no file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from training.batch import (
    Batch,
    SampleRef,
    StepCallback,
    TrainedImages,
    TrainingImage,
    TrainingJob,
    TrainingStep,
    size_conditioning,
)
from training.data.masks import masked_mean
from training.data.sampler import draw_noise, epoch_batches, seed_of
from training.performance.prefetch import prefetch, to_device
from training.performance.step_runner import step_runner

if TYPE_CHECKING:
    import torch

    from training.distributed import DistributedContext
    from training.optim.train_state import TrainState
    from training.options.train_options import TrainOptions


def epoch_steps(config: TrainOptions, samples: list[TrainingImage], epoch: int) -> list[list[list[SampleRef]]]:
    """The steps of an epoch from 0, each a list of the batches that make it."""
    batches = epoch_batches(
        samples, epoch, config.optimizer.batch_size, config.optimizer.seed, config.dataset.incomplete_batch
    )
    if not batches:
        raise PrepError(
            f"No size has the {config.optimizer.batch_size} images of a batch, so underfilled drop leaves none.",
            "Use a smaller batch, or: --incomplete-batch keep",
        )
    return [
        batches[at : at + config.optimizer.gradient_accumulation_steps]
        for at in range(0, len(batches), config.optimizer.gradient_accumulation_steps)
    ]


def count_steps(config: TrainOptions, samples: list[TrainingImage]) -> int:
    """The steps of the whole run: as given, or those of all epochs."""
    if config.optimizer.steps:
        return config.optimizer.steps
    return sum(len(epoch_steps(config, samples, epoch)) for epoch in range(config.optimizer.epochs))


def train(job: TrainingJob, learner: TrainState, done: int, watchers: Sequence[StepCallback]) -> None:
    """Train the learner's weights in place, from after step `done` until the last or until a watcher ends it."""
    config, ranks, total = job.config, learner.distributed, count_steps(job.config, job.samples)
    steps = prefetch(_course(job, done, total), lambda step: _gather(job, step[3], ranks), job.device)
    with step_runner(job, image_losses, total - done) as study:
        for (number, epoch, ends, draws), batches in steps:
            rate = learner.set_learning_rates(number - 1, total)
            seed = seed_of(config.optimizer.seed, "step", number, ranks.rank)  # of what draws inside the model
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


def image_losses(job: TrainingJob, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The error of each image of a batch, and how much it counts, both (B,)."""
    noisy = job.objective.add_noise(batch.latents, batch.added_noise, batch.timesteps)
    condition = job.encode_prompts(batch.prompts) if batch.condition is None else batch.condition
    prediction = job.family.forward(
        job.denoiser, noisy, job.objective.model_timestep(batch.timesteps), condition, batch.size_conditioning
    )
    target = job.objective.target(batch.latents, batch.noise, batch.timesteps)
    error = masked_mean(job.objective.loss(prediction, target, batch.timesteps), batch.mask)
    return error, job.objective.weight(batch.timesteps) * batch.prior_weights


def make_batch(job: TrainingJob, draws: list[SampleRef]) -> Batch:
    """The tensors of a batch: all that does not depend on the weights."""
    import torch

    config = job.config
    moments = [job.latent(draw) for draw in draws]
    shape = tuple(moments[0][0].shape[1:])
    chances = [draw_noise(draw, job.objective, shape, (config.optimizer.seed, config.objective)) for draw in draws]
    clean = [mean + std * c.posterior for (mean, std), c in zip(moments, chances, strict=True)]
    prior = torch.tensor([config.dataset.prior_loss_weight if draw.image.reg else 1.0 for draw in draws])
    masks = [job.mask(draw) for draw in draws]
    whole = torch.ones(1, 1, *shape[1:])
    size = torch.tensor([size_conditioning(draw.image) for draw in draws], dtype=torch.float32)
    counts = torch.cat([mask if mask is not None else whole for mask in masks])
    prompts = [job.prompt(draw) for draw in draws]
    return Batch(
        samples=draws,
        prompts=prompts,
        latents=to_device(torch.cat(clean), job.device),
        noise=to_device(torch.cat([c.noise for c in chances]), job.device),
        added_noise=to_device(torch.cat([c.added_noise for c in chances]), job.device),
        timesteps=to_device(torch.cat([c.timestep for c in chances]), job.device),
        prior_weights=to_device(prior, job.device),
        size_conditioning=to_device(size, job.device),
        mask=None if all(mask is None for mask in masks) else to_device(counts, job.device),
        condition=None if job.trains_text_encoder else job.encode_prompts(prompts),
    )
