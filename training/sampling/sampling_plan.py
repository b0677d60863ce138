"""What one pass of sampling goes through: its sigmas, where it begins, and how latents are scaled for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from training.sampling.denoiser import Denoiser, Network
from training.sampling.samplers.table import SAMPLERS
from training.sampling.samplers.timesteps import timesteps
from training.sampling.schedules import AUTOMATIC, SCHEDULES, SCHEDULES_XL

if TYPE_CHECKING:
    import torch

    from training.sampling.noise import ImageNoise
    from training.sampling.noise_levels import NoiseLevels
    from training.sampling.samplers.sampler import Sampler

_MOST_DENOISE = 0.999  # WebUI's: less than all, so that at least one step is left out


@dataclass(frozen=True, slots=True)
class SamplerChoice:
    """The titles of a sampler and a schedule, and the model that they are for."""

    sampler: str  # a key of SAMPLERS, see `find_sampler`
    levels: NoiseLevels
    schedule: str = AUTOMATIC  # see `find_schedule`
    xl: bool = False  # Stable Diffusion XL, for which some schedules differ

    def check(self) -> None:
        """Raise PrepError for a sampler or a schedule that the model cannot be sampled with."""
        if not self.levels.flow:
            return
        if not SAMPLERS[self.sampler].flow:
            able = ", ".join(title for title, sampler in SAMPLERS.items() if sampler.flow)
            raise PrepError(
                f"The sampler {self.sampler} cannot sample a base model trained by flow matching.", f"Use: {able}."
            )
        if self.schedule == "Align Your Steps":
            raise PrepError(
                "The schedule Align Your Steps is not made for base models trained by flow matching.",
                "Use another, such as Automatic.",
            )


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """One pass of a sampler, from noise or from noisy latents to latents."""

    sampler: Sampler
    levels: NoiseLevels  # of the model, as the sampler knows them
    sigmas: tuple[float, ...]  # that are gone through, falling; fewer than two: nothing is done
    ends: tuple[float, float]  # smallest positive and largest sigma of the whole schedule
    start_sigma: float  # of the noise that is added to latents
    unit_variance: bool = False  # whether noisy latents come and go divided by sqrt(1 + sigma^2)

    @property
    def steps(self) -> int:
        """How many steps are taken."""
        return max(len(self.sigmas) - 1, 0)

    def start(self, noise: torch.Tensor) -> torch.Tensor:
        """What sampling begins with, from noise (B, C, h, w) of unit variance."""
        return noise * (math.sqrt(1 + self.sigmas[0] ** 2) if self.unit_variance else self.sigmas[0])

    def start_from(self, latents: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """What sampling begins with, from latents of an image and noise, both (B, C, h, w) of unit variance."""
        if not self.steps:
            return latents
        if self.levels.flow:
            return (1 - self.start_sigma) * latents + self.start_sigma * noise
        noisy = latents + self.start_sigma * noise
        if self.unit_variance:  # WebUI adds the noise of one timestep and begins at the one below it
            return noisy * math.sqrt((1 + self.sigmas[0] ** 2) / (1 + self.start_sigma**2))
        return noisy

    def sample(self, network: Network, x: torch.Tensor, noise: ImageNoise, eta: float | None = None) -> torch.Tensor:
        """Latents from what sampling begins with. `eta` scales the noise of the steps; None: as usual."""
        if not self.steps:
            return x
        if self.sampler.noise == "brownian":
            draw = noise.brownian(*self.ends)
        else:

            def draw(sigma: float, following: float) -> torch.Tensor:
                return noise.next()

        share = (self.sampler.eta or 0.0) if eta is None else eta
        x = self.sampler.sample(Denoiser(network, self.levels), x, list(self.sigmas), draw, share)
        return x / math.sqrt(1 + self.sigmas[-1] ** 2) if self.unit_variance else x


def text_to_image(choice: SamplerChoice, steps: int) -> SamplingPlan:
    """The plan for images from noise alone in `steps` steps, at least 1."""
    sampler, levels = _checked(choice, steps)
    if sampler.own_sigmas is None:
        return _plan(choice, _sigmas(choice, steps), 0)
    sigmas = sampler.own_sigmas(timesteps(steps, levels), levels, True)
    if len(sigmas) < 2:
        raise _too_short(choice)
    return SamplingPlan(sampler, levels, tuple(sigmas), (sigmas[-1], sigmas[0]), sigmas[0], unit_variance=True)


def image_to_image(choice: SamplerChoice, steps: int, denoise: float, *, exact: bool = False) -> SamplingPlan:
    """The plan for images from others, changed by the share `denoise` of the schedule, 0 to 1.

    As in WebUI: int(denoise steps) + 1 of `steps` steps are taken; if `exact`, as in hires fix, `steps` of
    int(steps / denoise).
    """
    share = min(denoise, _MOST_DENOISE)
    whole = int(steps / share) if exact and share else steps
    taken = (steps - 1 if exact else int(share * steps)) if share else -1
    sampler, levels = _checked(choice, whole)
    if sampler.own_sigmas is None:
        return _plan(choice, _sigmas(choice, whole), whole - taken - 1)
    through = timesteps(whole, levels)
    if taken < 1:
        return SamplingPlan(sampler, levels, (), (0.0, 0.0), 0.0, unit_variance=True)
    sigmas = sampler.own_sigmas(through[:taken], levels, False)
    start = float(levels.sigmas[through[min(taken, len(through) - 1)]])
    return SamplingPlan(sampler, levels, tuple(sigmas), (sigmas[-1], sigmas[0]), start, unit_variance=True)


def _checked(choice: SamplerChoice, steps: int) -> tuple[Sampler, NoiseLevels]:
    choice.check()
    if not 1 <= steps <= len(choice.levels.sigmas):
        raise PrepError(
            f"Images cannot be sampled in {steps} steps.",
            f"A schedule has 1 to {len(choice.levels.sigmas)}; usual are 20 to 50. Where an image is changed a little "
            "with a fixed number of steps, it is made for more: steps divided by the denoising strength.",
        )
    sampler = SAMPLERS[choice.sampler]
    return sampler, sampler.levels(choice.levels)


def _sigmas(choice: SamplerChoice, steps: int) -> list[float]:
    sampler = SAMPLERS[choice.sampler]
    title = sampler.schedule if choice.schedule == AUTOMATIC else choice.schedule
    make = (SCHEDULES_XL if choice.xl else SCHEDULES)[title]
    sigmas: list[float] = make(steps + sampler.discard_next_to_last, sampler.levels(choice.levels)).tolist()
    return sigmas[:-2] + sigmas[-1:] if sampler.discard_next_to_last else sigmas


def _plan(choice: SamplerChoice, sigmas: list[float], first: int) -> SamplingPlan:
    sampler = SAMPLERS[choice.sampler]
    gone = tuple(sigmas[first:])
    if sampler.ends_only and len(gone) == 2:
        raise _too_short(choice)
    ends = (min(sigma for sigma in sigmas if sigma > 0), max(sigmas))
    return SamplingPlan(sampler, sampler.levels(choice.levels), gone, ends, gone[0])


def _too_short(choice: SamplerChoice) -> PrepError:
    return PrepError(f"{choice.sampler} samples nothing in 1 step.", "Take more steps, or another sampler.")
