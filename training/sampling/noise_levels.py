"""The noise levels that a base model was trained with, and fractional timesteps between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from training.objective import Objective

# Instead of 0, where sigma would be infinite; the value that WebUI uses for zero terminal SNR: sigma is 4518.
_SMALLEST_ALPHA = 4.8973451890853435e-08


@dataclass(frozen=True)
class NoiseLevels:
    """The standard deviation sigma of the noise at each trained timestep.

    A noisy latent is x = x_0 + sigma noise (Karras et al. 2022, https://arxiv.org/abs/2206.00364), for flow matching
    x = (1 - sigma) x_0 + sigma noise. Between two timesteps log sigma is linear, as in k-diffusion.
    """

    sigmas: torch.Tensor  # (T,) float32 on the CPU, rising
    prediction: str  # what the model predicts: epsilon, v_prediction, sample or flow

    @property
    def flow(self) -> bool:
        """Whether latents are interpolated between image and noise, by flow matching."""
        return self.prediction == "flow"

    @property
    def smallest(self) -> float:
        """The sigma of the first timestep, 0.029 for Stable Diffusion 1.x, 2.x and XL."""
        return float(self.sigmas[0])

    @property
    def largest(self) -> float:
        """The sigma of the last timestep, 14.6 for Stable Diffusion 1.x, 2.x and XL; 1 for flow matching."""
        return float(self.sigmas[-1])

    def to_sigma(self, timesteps: torch.Tensor) -> torch.Tensor:
        """The sigmas of timesteps from 0 to T - 1, which may be fractional."""
        logs = self.sigmas.log()
        share = timesteps.frac()
        return ((1 - share) * logs[timesteps.floor().long()] + share * logs[timesteps.ceil().long()]).exp()

    def to_timestep(self, sigma: float) -> float:
        """The fractional timestep of a sigma as the model takes it; the nearest one for a sigma outside."""
        import torch

        if self.flow:  # its timestep is 1000 sigma, from which nothing needs to be looked up
            return 1000 * sigma
        logs, at = self.sigmas.log(), torch.tensor(sigma, dtype=torch.float32).log()
        low = int(torch.searchsorted(logs, at, right=True).sub(1).clamp(0, len(logs) - 2))
        share = ((at - logs[low]) / (logs[low + 1] - logs[low])).clamp(0, 1)
        return low + float(share)

    def scales(self, sigma: float) -> tuple[float, float, float]:
        """Factors in, out, skip: the denoised latent is skip x + out model(in x, timestep)."""
        variance = 1 + sigma * sigma
        return {
            "epsilon": (variance**-0.5, -sigma, 1.0),
            "v_prediction": (variance**-0.5, -sigma * variance**-0.5, 1 / variance),
            "sample": (variance**-0.5, 1.0, 0.0),
            "flow": (1.0, -sigma, 1.0),
        }[self.prediction]


def noise_levels(objective: Objective) -> NoiseLevels:
    """The noise levels of a base model's objective, see `Family.objective`."""
    import torch

    from training.objective import DDPM, TIMESTEPS, FlowMatch

    if isinstance(objective, DDPM):
        alphas = objective.alphas.cpu().float().clamp(min=_SMALLEST_ALPHA)
        return NoiseLevels(((1 - alphas) / alphas).sqrt(), objective.prediction)
    assert isinstance(objective, FlowMatch)
    times = torch.arange(1, TIMESTEPS + 1) / TIMESTEPS
    return NoiseLevels(objective.shift * times / (1 + (objective.shift - 1) * times), "flow")
