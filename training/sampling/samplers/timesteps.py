"""The timesteps of samplers that have no schedule: DDIM, PLMS and UniPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.sampling.noise_levels import NoiseLevels


def timesteps(steps: int, levels: NoiseLevels) -> list[int]:
    """1, 1 + T // steps, ... up to T - 1, rising; these may be more than `steps`."""
    count = len(levels.sigmas)
    return [min(timestep + 1, count - 1) for timestep in range(0, count, max(count // steps, 1))]


def sigmas_at(timesteps: list[int], levels: NoiseLevels, whole: bool) -> list[float]:
    """The sigmas of trained timesteps, falling. WebUI's DDIM and PLMS end at the smallest of these, not at 0."""
    found: list[float] = levels.sigmas[timesteps[::-1]].tolist()
    return found
