"""The training loop: `train_step` is one step of it from noise to updated weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from training.batch import (
    Batch,
    PlannedStep,
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
from training.performance.step_runner import StepRunner

if TYPE_CHECKING:
    import torch

    from training.optim.train_state import TrainState
    from training.options.train_options import TrainOptions


def train(job: TrainingJob, state: TrainState, done: int, callbacks: Sequence[StepCallback]) -> None:
    """Train the weights of `state` in place, from the step after `done` to the last or until a callback ends it."""
    total = count_steps(job.config, job.samples)

    def batches_of(planned: PlannedStep) -> list[Batch | None]:
        """This process's share of a step; None for a batch with fewer images than there are processes."""
        shares = [state.distributed.share(batch) for batch in planned.batches]
        return [make_batch(job, share) if share else None for share in shares]

    steps = prefetch(planned_steps(job, done, total), batches_of, job.device)
    with closing(StepRunner(job, total - done)) as runner:
        for planned, batches in steps:
            step = train_step(job, state, planned, batches, runner)
            answers = [callback(step) for callback in callbacks]  # all of them are called
            if any(answers):
                break


def train_step(
    job: TrainingJob, state: TrainState, planned: PlannedStep, batches: list[Batch | None], runner: StepRunner
) -> TrainingStep:
    """One optimizer step: noise, forward, loss, backward, clip, optimizer, EMA.

    `batches` were made ahead by `make_batch`. The runner decides how the gradients are computed (eagerly, compiled,
    as CUDA graphs, once more with less memory), not what is computed: that is `forward_backward`.
    """
    learning_rate = state.set_learning_rates(planned.number - 1, planned.total)
    dropout_seed = seed_of(job.config.optimizer.seed, "step", planned.number, state.distributed.rank)

    losses = runner.run(forward_backward, batches, planned.images, dropout_seed)
    state.reduce_gradients()  # in float32, summed over all processes
    grad_norm = state.clip_gradients()
    state.optimizer.step()
    state.update_ema(planned.number - 1)
    state.sync_params()  # the model's bf16 copies, where it has any; no gradient is left

    trained = [
        TrainedImages(samples, loss, weight, batch.timesteps if batch else loss)
        for samples, (loss, weight), batch in zip(planned.batches, losses, batches, strict=True)
    ]
    return TrainingStep(
        planned.number, planned.total, planned.epoch, planned.epoch_ends, trained, learning_rate, grad_norm
    )


def forward_backward(job: TrainingJob, batch: Batch, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Add a batch's gradients to those of the weights; the loss of each image and its weight, both (B,).

    The loss of a step is the mean over its `images`, those of all batches and processes: the gradient of a step is
    the sum of what its batches add.
    """
    losses, weights = image_losses(job, batch)
    loss = (losses * weights).sum() / images
    loss.backward()  # type: ignore[no-untyped-call]
    return losses.detach(), weights


def image_losses(job: TrainingJob, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The unweighted loss of each image of a batch, and its weight in the mean, both (B,)."""
    noisy = job.objective.add_noise(batch.latents, batch.added_noise, batch.timesteps)
    condition = job.encode_prompts(batch.prompts) if batch.condition is None else batch.condition
    prediction = job.family.forward(
        job.denoiser, noisy, job.objective.model_timestep(batch.timesteps), condition, batch.size_conditioning
    )
    target = job.objective.target(batch.latents, batch.noise, batch.timesteps)
    losses = masked_mean(job.objective.loss(prediction, target, batch.timesteps), batch.mask)
    return losses, job.objective.weight(batch.timesteps) * batch.prior_weights


def make_batch(job: TrainingJob, samples: list[SampleRef]) -> Batch:
    """The tensors of a batch: all that does not depend on the weights. The images must have one size."""
    import torch

    config = job.config
    moments = [job.latent(sample) for sample in samples]
    shape = tuple(moments[0][0].shape[1:])
    noises = [draw_noise(sample, job.objective, shape, config.optimizer.seed, config.objective) for sample in samples]
    latents = [mean + std * noise.posterior for (mean, std), noise in zip(moments, noises, strict=True)]
    masks = [job.mask(sample) for sample in samples]
    unmasked = torch.ones(1, 1, *shape[1:])
    mask = torch.cat([unmasked if mask is None else mask for mask in masks])
    prior_weights = [config.dataset.prior_loss_weight if sample.image.reg else 1.0 for sample in samples]
    sizes = [size_conditioning(sample.image) for sample in samples]
    prompts = [job.prompt(sample) for sample in samples]
    return Batch(
        samples=samples,
        prompts=prompts,
        latents=to_device(torch.cat(latents), job.device),
        noise=to_device(torch.cat([noise.noise for noise in noises]), job.device),
        added_noise=to_device(torch.cat([noise.added_noise for noise in noises]), job.device),
        timesteps=to_device(torch.cat([noise.timestep for noise in noises]), job.device),
        prior_weights=to_device(torch.tensor(prior_weights), job.device),
        size_conditioning=to_device(torch.tensor(sizes, dtype=torch.float32), job.device),
        mask=None if all(mask is None for mask in masks) else to_device(mask, job.device),
        condition=None if job.trains_text_encoder else job.encode_prompts(prompts),
    )


def planned_steps(job: TrainingJob, done: int, total: int) -> Iterator[PlannedStep]:
    """The steps after `done`, epoch after epoch, to the last."""
    number = 0
    for epoch in itertools.count():
        steps = epoch_steps(job.config, job.samples, epoch)
        for left, batches in zip(range(len(steps) - 1, -1, -1), steps, strict=True):
            number += 1
            if number > done:
                yield PlannedStep(number, total, epoch + 1, left == 0, batches)
            if number == total:
                return


def epoch_steps(config: TrainOptions, samples: list[TrainingImage], epoch: int) -> list[list[list[SampleRef]]]:
    """The steps of an epoch (from 0), each a list of the batches whose gradients it accumulates."""
    batches = epoch_batches(
        samples, epoch, config.optimizer.batch_size, config.optimizer.seed, config.dataset.incomplete_batch
    )
    if not batches:
        raise PrepError(
            f"No image size has the {config.optimizer.batch_size} images of a batch, so --incomplete-batch drop leaves "
            "nothing to train on.",
            "Use a smaller batch size, or keep incomplete batches: --incomplete-batch keep",
        )
    count = config.optimizer.gradient_accumulation_steps
    return [batches[start : start + count] for start in range(0, len(batches), count)]


def count_steps(config: TrainOptions, samples: list[TrainingImage]) -> int:
    """The steps of the whole run: --steps, or those of all epochs."""
    if config.optimizer.steps:
        return config.optimizer.steps
    return sum(len(epoch_steps(config, samples, epoch)) for epoch in range(config.optimizer.epochs))
