"""Noise by seed: one random generator per image, so that an image does not depend on its batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import torch

    from training.sampling.samplers.sampler import Noise

# gpu: the generator of the device that samples; cpu: the CPU's; nv: an NVIDIA GPU's, computed anywhere
NoiseSource = Literal["cpu", "gpu", "nv"]
_ALMOST_EQUAL = 0.9995  # mean cosine above which an interpolation on the sphere is numerically poor
LARGEST_SEED = 2**32 - 2  # of a random seed, as in WebUI


@dataclass(frozen=True, kw_only=True)
class NoiseDraws:
    """How noise is drawn; all but the seeds."""

    source: NoiseSource = "gpu"
    variation_strength: float = 0.0  # share of the variation seed's noise in the start noise, 0 to 1
    resize_from: tuple[int, int] | None = None  # height and width in latent pixels of an image to imitate
    seed_delta: int = 0  # ENSD: added to the seeds for the noise of ancestral steps; 31337 as NovelAI has it


@dataclass(frozen=True, slots=True)
class Seeds:
    """The seeds of one image."""

    seed: int
    variation: int = 0


def image_seeds(first: Seeds, count: int, variation_strength: float) -> list[Seeds]:
    """The seeds of all images of a job: the seed counts up, with a variation the variation seed instead."""
    if variation_strength > 0:
        return [replace(first, variation=first.variation + index) for index in range(count)]
    return [Seeds(first.seed + index, first.variation + index) for index in range(count)]


class _Generator(Protocol):
    def draw(self, shape: tuple[int, ...]) -> torch.Tensor:
        """The next float32 numbers of a standard normal distribution."""


class ImageNoise:
    """The noise of the images of a batch: start noise first, then that of the steps.

    As WebUI draws it: float32 numbers in the shape (C, h, w) of one image, each from the generator of its image.
    """

    def __init__(
        self, shape: tuple[int, int, int], seeds: list[Seeds], settings: NoiseDraws, device: torch.device
    ) -> None:
        self._shape, self._seeds, self._settings, self._device = shape, seeds, settings, device
        self._generators = [_generator(one.seed, settings.source, device) for one in seeds]

    def first(self) -> torch.Tensor:
        """The start noise (B, C, h, w) of unit variance, float32 on the device. To be called once, before `next`."""
        noises = [self._start(one, generator) for one, generator in zip(self._seeds, self._generators, strict=True)]
        if delta := self._settings.seed_delta:
            self._generators = [
                _generator(one.seed + delta, self._settings.source, self._device) for one in self._seeds
            ]
        return self._stack(noises)

    def next(self) -> torch.Tensor:
        """The noise (B, C, h, w) of the next step."""
        return self._stack([generator.draw(self._shape) for generator in self._generators])

    def brownian(self, lowest: float, highest: float) -> Noise:
        """The noise of a Brownian motion over sigma for each image, so that it does not depend on the steps.

        `lowest` and `highest` are the ends of the schedule, without 0. As in k-diffusion.
        """
        import torch
        import torchsde

        draw_on = torch.device("cpu") if self._settings.source == "cpu" else self._device
        ends = [torch.tensor(end, dtype=torch.float32) for end in (lowest, highest)]
        start = torch.zeros(self._shape, device=draw_on)
        trees = [torchsde.BrownianTree(ends[0], start, ends[1], entropy=one.seed) for one in self._seeds]

        def between(sigma: float, following: float) -> torch.Tensor:
            low, high = sorted(torch.tensor(end, dtype=torch.float32) for end in (sigma, following))
            with _drawn_from(self._settings.source), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of ends that differ by rounding
                moves = self._stack([tree(low, high) for tree in trees])
            # k-diffusion's sign: time runs with sigma, sampling against it.
            return -moves / (high - low).abs().sqrt() if sigma > following else moves / (high - low).abs().sqrt()

        return between

    def _start(self, seeds: Seeds, generator: _Generator) -> torch.Tensor:
        settings = self._settings
        resized = settings.resize_from is not None and settings.resize_from != self._shape[1:]
        shape = (self._shape[0], *settings.resize_from) if resized and settings.resize_from else self._shape
        source = _generator(seeds.seed, settings.source, self._device) if resized else generator
        noise = source.draw(shape)
        if settings.variation_strength:
            other = _generator(seeds.variation, settings.source, self._device).draw(shape)
            noise = interpolate(noise, other, settings.variation_strength)
        return paste(noise, generator.draw(self._shape)) if resized else noise

    def _stack(self, noises: list[torch.Tensor]) -> torch.Tensor:
        import torch

        return torch.stack(noises).to(self._device)


def interpolate(first: torch.Tensor, second: torch.Tensor, share: float) -> torch.Tensor:
    """Noise (C, h, w) between two on the sphere, along the rows as WebUI has it; `share` of the second, 0 to 1.

    Nearly equal noises are interpolated linearly, there with the shares exchanged, as in WebUI.
    """
    import torch

    directions = [noise / torch.linalg.vector_norm(noise, dim=1, keepdim=True) for noise in (first, second)]
    cosine = (directions[0] * directions[1]).sum(1)
    if cosine.mean() > _ALMOST_EQUAL:
        return first * share + second * (1 - share)
    angle = torch.acos(cosine).unsqueeze(1)
    return (torch.sin((1 - share) * angle) * first + torch.sin(share * angle) * second) / torch.sin(angle)


def paste(noise: torch.Tensor, into: torch.Tensor) -> torch.Tensor:
    """Noise of another size, (C, h, w), in the middle of `into`; what does not fit is cut off at both sides."""
    result = into.clone()
    inner, outer = [], []
    for size, target in zip(noise.shape[1:], into.shape[1:], strict=True):
        # Halves are rounded down, also those of negative numbers, as in WebUI.
        offset = (target - size) // 2
        length = size if offset >= 0 else size + 2 * offset
        outer.append(slice(max(offset, 0), max(offset, 0) + length))
        inner.append(slice(max(-offset, 0), max(-offset, 0) + length))
    result[:, outer[0], outer[1]] = noise[:, inner[0], inner[1]]
    return result


@dataclass
class _TorchGenerator:
    generator: torch.Generator

    def draw(self, shape: tuple[int, ...]) -> torch.Tensor:
        import torch

        return torch.randn(shape, generator=self.generator, device=self.generator.device)


def _generator(seed: int, source: NoiseSource, device: torch.device) -> _Generator:
    import torch

    from training.sampling.philox import PhiloxGenerator

    if source == "nv":
        return PhiloxGenerator(seed)
    # PyTorch's generator on Apple's GPUs differs between its versions; WebUI takes the CPU's there.
    on_cpu = source == "cpu" or device.type == "mps"
    return _TorchGenerator(torch.Generator("cpu" if on_cpu else device).manual_seed(seed))


@contextmanager
def _drawn_from(source: NoiseSource) -> Iterator[None]:
    """Lets torchsde draw its noise from our generators; its own draws that of PyTorch's on the tree's device."""
    from torchsde._brownian import brownian_interval

    def draw(size: tuple[int, ...], dtype: torch.dtype, device: torch.device, seed: int) -> torch.Tensor:
        return _generator(int(seed), source, device).draw(tuple(size)).to(device, dtype)

    own: Callable[..., torch.Tensor] = brownian_interval._randn
    brownian_interval._randn = draw
    try:
        yield
    finally:
        brownian_interval._randn = own
