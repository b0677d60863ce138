"""The batches of each epoch, and the randomness of each sample: functions of the seed, the record id and the repeat."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from training.batch import NoiseSample, SampleRef, TrainingImage

if TYPE_CHECKING:
    from training.objective import Objective
    from training.options.objective import ObjectiveOptions


IncompleteBatch = Literal["keep", "fill", "drop"]


def seed_of(*parts: object) -> int:
    """A random seed that depends on the parts alone: 63 bits of their sha256."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def is_flipped(sample: SampleRef, seed: int) -> bool:
    """Whether random flipping flips this sample: true for half of them."""
    return bool(seed_of(seed, "mirror", sample.image.id, sample.repeat) & 1)


def epoch_batches(
    images: list[TrainingImage], epoch: int, batch_size: int, seed: int, incomplete_batch: IncompleteBatch = "keep"
) -> list[list[SampleRef]]:
    """The batches of an epoch, counted from 0, in random order; all images of a batch have one size.

    Every image occurs as often as its repeats say. The last, incomplete batch of a size is kept
    smaller, filled with repeated images, or dropped; which images these are differs from epoch to epoch.
    """
    rng = random.Random(seed_of(seed, "epoch", epoch))
    samples = [*_subject_samples(images, epoch), *_reg_samples(images, epoch, seed)]
    rng.shuffle(samples)
    sizes: dict[tuple[int, int], list[SampleRef]] = defaultdict(list)
    for sample in samples:
        sizes[sample.image.width, sample.image.height].append(sample)
    if batch_size > 1:
        sizes = {size: _INCOMPLETE[incomplete_batch](group, batch_size) for size, group in sizes.items()}
    batches = [
        group[start : start + batch_size] for group in sizes.values() for start in range(0, len(group), batch_size)
    ]
    _check_counts(samples, batches, incomplete_batch)
    rng.shuffle(batches)
    return batches


def _check_counts(planned: list[SampleRef], batches: list[list[SampleRef]], incomplete_batch: IncompleteBatch) -> None:
    """AssertionError if an image does not occur as often as planned, apart from what `incomplete_batch` changes."""
    plan = Counter(sample.image.id for sample in planned)
    counts = Counter(sample.image.id for batch in batches for sample in batch)
    missing, extra = plan - counts, counts - plan
    if (missing and incomplete_batch != "drop") or (extra and incomplete_batch != "fill"):
        id = min(missing or extra)
        raise AssertionError(f"the record {id} occurs {counts[id]} times per epoch instead of {plan[id]}")


def _fill_up(group: list[SampleRef], batch_size: int) -> list[SampleRef]:
    """Repeat the first samples of a group until it fills its batches; repeated ones have randomness of their own."""
    missing = -len(group) % batch_size
    fillers = itertools.islice(itertools.cycle(group), missing)
    return [*group, *(replace(one, repeat=-1 - one.repeat - k * _FILLER_OFFSET) for k, one in enumerate(fillers))]


def _drop_rest(group: list[SampleRef], batch_size: int) -> list[SampleRef]:
    return group[: len(group) - len(group) % batch_size]


_FILLER_OFFSET = 1 << 32  # more than the repeats of any run, so that fillers share no seed with other samples
_INCOMPLETE: dict[IncompleteBatch, Callable[[list[SampleRef], int], list[SampleRef]]] = {
    "keep": lambda group, batch_size: group,
    "fill": _fill_up,
    "drop": _drop_rest,
}


def _subject_samples(images: list[TrainingImage], epoch: int) -> Iterator[SampleRef]:
    for image in images:
        if not image.reg:
            for repeat in range(image.repeats):
                yield SampleRef(image, epoch * image.repeats + repeat, epoch)


def _reg_samples(images: list[TrainingImage], epoch: int, seed: int) -> Iterator[SampleRef]:
    """As many regularization samples of each class as subject samples, cycling through its images over the epochs."""
    needed: dict[str, int] = defaultdict(int)
    pool: dict[str, list[TrainingImage]] = defaultdict(list)
    for image in images:
        if image.reg:
            pool[image.class_name].append(image)
        else:
            needed[image.class_name] += image.repeats
    for name, own in pool.items():
        own.sort(key=lambda image: seed_of(seed, "prior", image.id))
        for position in range(epoch * needed[name], (epoch + 1) * needed[name]):
            yield SampleRef(own[position % len(own)], position // len(own), epoch)


def draw_noise(
    sample: SampleRef, objective: Objective, shape: tuple[int, ...], seed: int, options: ObjectiveOptions
) -> NoiseSample:
    """The timestep and the noise of a sample, for a latent of `shape` (C, h, w).

    The same for the same seed, record id and repeat, whatever else is in the batch. The noise offset is a
    constant per channel, from which the model learns overall brightness
    (https://www.crosslabs.org/blog/diffusion-with-offset-noise); input perturbation is noise that is added
    but not predicted (https://arxiv.org/abs/2301.11706).
    """
    import torch

    generator = torch.Generator().manual_seed(seed_of(seed, sample.image.id, sample.repeat))
    timestep = objective.sample_timesteps(generator, shape)
    noise = torch.randn(1, *shape, generator=generator)
    posterior = torch.randn(1, *shape, generator=generator)
    if options.noise_offset:
        noise = noise + options.noise_offset * torch.randn(1, shape[0], 1, 1, generator=generator)
    added_noise = noise
    if options.input_perturbation:
        added_noise = noise + options.input_perturbation * torch.randn(1, *shape, generator=generator)
    return NoiseSample(timestep, noise, added_noise, posterior)
