"""What a sampler is: a function with a shared signature, and what WebUI knows about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import torch

    from training.sampling.noise_levels import NoiseLevels

# Noisy latents (B, C, h, w) and their sigma to denoised latents.
Model = Callable[["torch.Tensor", float], "torch.Tensor"]
# Noise of unit variance for the step from one sigma to the next, in the shape of the latents.
Noise = Callable[[float, float], "torch.Tensor"]


class Sample(Protocol):
    """A sampler's function."""

    def __call__(self, model: Model, x: torch.Tensor, sigmas: list[float], noise: Noise, eta: float) -> torch.Tensor:
        """The latents that `x`, of noise level `sigmas[0]`, becomes at the last of the falling `sigmas`.

        `noise` and `eta`, the share of ancestral noise, are used by the samplers that add noise in their steps.
        """


def _same(levels: NoiseLevels) -> NoiseLevels:
    return levels


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A sampler of WebUI."""

    sample: Sample
    schedule: str = "Uniform"  # what the schedule Automatic means
    evaluations: Literal[1, 2] = 1  # of the model per step, as schedules in prompts count
    discard_next_to_last: bool = False  # the schedule is made for one step more, without the last sigma before 0
    ends_only: bool = False  # of a schedule it uses only the first sigma, the last before 0 and their number
    batches: bool = True  # whether images of a batch are independent; else sample one at a time
    noise: Literal["none", "ancestral", "brownian"] = "none"  # what it adds in its steps
    eta: float | None = None  # the usual share of that noise; None: it has no such setting
    seed_delta: bool = False  # whether the noise of its steps obeys the eta noise seed delta (ENSD)
    # Of samplers that go through timesteps instead of a schedule, in latents of unit variance: the sigmas for some of
    # WebUI's timesteps, rising; and whether these are all of them.
    own_sigmas: Callable[[list[int], NoiseLevels, bool], list[float]] | None = None
    levels: Callable[[NoiseLevels], NoiseLevels] = _same  # the noise levels that it knows of those of the model
    flow: bool = False  # whether it can sample flow-matching models: it adds no noise
    aliases: tuple[str, ...] = ()
