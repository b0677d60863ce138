"""Which images are seen when: the batches of an epoch, and all that is random about an image's turn."""

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


def is_flipped(draw: SampleRef, seed: int) -> bool:
    """Whether this draw shows its image mirrored, where half of them shall: by a coin of its own."""
    return bool(seed_of(seed, "mirror", draw.image.id, draw.repeat) & 1)


def epoch_batches(
    samples: list[TrainingImage], epoch: int, batch_size: int, seed: int, incomplete_batch: IncompleteBatch = "keep"
) -> list[list[SampleRef]]:
    """The batches of one epoch in random order; none mixes sizes, and every image comes as often as planned.

    What is left of a size and does not fill a batch makes a smaller one, or is filled up with
    images of its size drawn once more, or is dropped; the order is another in every epoch, and so
    is what is dropped.
    """
    order = random.Random(seed_of(seed, "epoch", epoch))
    drawn = [*_subject_draws(samples, epoch), *_reg_draws(samples, epoch, seed)]
    order.shuffle(drawn)
    sizes: dict[tuple[int, int], list[SampleRef]] = defaultdict(list)
    for draw in drawn:
        sizes[draw.image.width, draw.image.height].append(draw)
    if batch_size > 1:
        sizes = {size: _INCOMPLETE[incomplete_batch](group, batch_size) for size, group in sizes.items()}
    batches = [group[at : at + batch_size] for group in sizes.values() for at in range(0, len(group), batch_size)]
    _check_counts(drawn, batches, incomplete_batch)
    order.shuffle(batches)
    return batches


def _check_counts(planned: list[SampleRef], batches: list[list[SampleRef]], incomplete_batch: IncompleteBatch) -> None:
    """AssertionError when an image is not seen as often as planned, but for what the policy adds or drops."""
    plan = Counter(draw.image.id for draw in planned)
    shown = Counter(draw.image.id for batch in batches for draw in batch)
    missed, more = plan - shown, shown - plan
    if (missed and incomplete_batch != "drop") or (more and incomplete_batch != "fill"):
        id = min(missed or more)
        raise AssertionError(f"the record {id} is shown {shown[id]} times an epoch, not the planned {plan[id]}")


def all_batches(
    samples: list[TrainingImage], batch_size: int, seed: int, incomplete_batch: IncompleteBatch = "keep"
) -> Iterator[tuple[int, list[SampleRef]]]:
    """Epoch after epoch without end: the epoch's number from 0, and a batch."""
    epoch = 0
    while True:
        for drawn in epoch_batches(samples, epoch, batch_size, seed, incomplete_batch):
            yield epoch, drawn
        epoch += 1


def _fill_up(group: list[SampleRef], batch: int) -> list[SampleRef]:
    """A whole number of batches: the first of the group come once more, with chances of their own."""
    lack = -len(group) % batch
    again = itertools.islice(itertools.cycle(group), lack)
    return [*group, *(replace(draw, repeat=-1 - draw.repeat - k * _FILLER_OFFSET) for k, draw in enumerate(again))]


def _drop_rest(group: list[SampleRef], batch: int) -> list[SampleRef]:
    return group[: len(group) - len(group) % batch]


_FILLER_OFFSET = 1 << 32  # more than a run has turns: keeps a filler's chance apart from all others
_INCOMPLETE: dict[IncompleteBatch, Callable[[list[SampleRef], int], list[SampleRef]]] = {
    "keep": lambda group, batch: group,
    "fill": _fill_up,
    "drop": _drop_rest,
}


def _subject_draws(samples: list[TrainingImage], epoch: int) -> Iterator[SampleRef]:
    for sample in samples:
        if not sample.reg:
            for turn in range(sample.repeats):
                yield SampleRef(sample, epoch * sample.repeats + turn, epoch)


def _reg_draws(samples: list[TrainingImage], epoch: int, seed: int) -> Iterator[SampleRef]:
    """For each class as many regularization draws as subject draws, going round through all its images."""
    need: dict[str, int] = defaultdict(int)
    pool: dict[str, list[TrainingImage]] = defaultdict(list)
    for sample in samples:
        if sample.reg:
            pool[sample.class_name].append(sample)
        else:
            need[sample.class_name] += sample.repeats
    for name, images in pool.items():
        images.sort(key=lambda sample: seed_of(seed, "prior", sample.id))
        for position in range(epoch * need[name], (epoch + 1) * need[name]):
            yield SampleRef(images[position % len(images)], position // len(images), epoch)


def draw_noise(
    draw: SampleRef, objective: Objective, shape: tuple[int, ...], settings: tuple[int, ObjectiveOptions]
) -> NoiseSample:
    """Time and noise of a draw: the same for the same (seed, record id, number), whatever is drawn beside it.

    `settings` are the seed and the options. The noise offset is a constant per channel that lets the
    model learn overall brightness (https://www.crosslabs.org/blog/diffusion-with-offset-noise); input
    perturbation is noise that is not to be predicted (https://arxiv.org/abs/2301.11706).
    """
    import torch

    seed, config = settings
    stream = torch.Generator().manual_seed(seed_of(seed, draw.image.id, draw.repeat))
    time = objective.sample_timesteps(stream, shape)
    noise = torch.randn(1, *shape, generator=stream)
    posterior = torch.randn(1, *shape, generator=stream)
    if config.noise_offset:
        noise = noise + config.noise_offset * torch.randn(1, shape[0], 1, 1, generator=stream)
    mixed = noise
    if config.input_perturbation:
        mixed = noise + config.input_perturbation * torch.randn(1, *shape, generator=stream)
    return NoiseSample(time, noise, mixed, posterior)
