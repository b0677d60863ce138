"""What the model learns: how a clean latent is mixed with noise, what is predicted, and how much each counts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.errors import PrepError

if TYPE_CHECKING:
    import torch


class Objective(Protocol):
    """A training objective. Latents are (B, C, H, W) of unit variance, times (B,) as `sample` draws them."""

    @property
    def prediction(self) -> str:
        """What the model predicts, as diffusers names it."""

    def sample(self, generator: torch.Generator) -> torch.Tensor:
        """One random time, shape (1,)."""

    def mix(self, clean: torch.Tensor, noise: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """The noisy latent at that time."""

    def target(self, clean: torch.Tensor, noise: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """What a perfect model would predict."""

    def weight(self, time: torch.Tensor) -> torch.Tensor:
        """How much a squared error at that time counts, shape (B,)."""

    def model_time(self, time: torch.Tensor) -> torch.Tensor:
        """The time as the network is told it."""

    def to(self, device: torch.device) -> Objective:
        """The same objective with its tables on a device."""


@dataclass(frozen=True)
class DDPM:
    """Denoising diffusion in discrete steps (Ho et al. 2020, https://arxiv.org/abs/2006.11239).

    x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise, where a_t is `alphas[t]`, the product of 1 - beta up to t.
    """

    alphas: torch.Tensor  # (T,) float32, falling
    prediction: str = "epsilon"  # or v_prediction
    min_snr: float = 0.0  # gamma of min-SNR weighting; 0: all times count alike

    def sample(self, generator: torch.Generator) -> torch.Tensor:
        import torch

        return torch.randint(len(self.alphas), (1,), generator=generator)

    def mix(self, clean: torch.Tensor, noise: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        signal, spread = self._shares(time)
        return signal * clean + spread * noise

    def target(self, clean: torch.Tensor, noise: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """The noise, or v = sqrt(a) noise - sqrt(1 - a) x_0 (https://arxiv.org/abs/2202.00512)."""
        if self.prediction == "epsilon":
            return noise
        signal, spread = self._shares(time)
        return signal * noise - spread * clean

    def weight(self, time: torch.Tensor) -> torch.Tensor:
        """min(snr, gamma) over snr, or over snr + 1 for v (https://arxiv.org/abs/2303.09556); else ones."""
        import torch

        alpha = self.alphas[time]
        if not self.min_snr:
            return torch.ones_like(alpha)
        snr = alpha / (1 - alpha)
        return snr.clamp(max=self.min_snr) / (snr if self.prediction == "epsilon" else snr + 1)

    def model_time(self, time: torch.Tensor) -> torch.Tensor:
        return time

    def to(self, device: torch.device) -> DDPM:
        return replace(self, alphas=self.alphas.to(device))

    def _shares(self, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        alpha = self.alphas[time].view(-1, 1, 1, 1)
        return alpha.sqrt(), (1 - alpha).sqrt()


def ddpm(schedule: dict[str, Any], prediction: str, min_snr: float) -> DDPM:
    """The objective of a diffusers scheduler configuration; `prediction` 'auto' takes what it says."""
    import torch

    kind = schedule.get("beta_schedule", "linear")
    first, last = schedule.get("beta_start", 0.0001), schedule.get("beta_end", 0.02)
    power = {"linear": 1, "scaled_linear": 2}.get(kind)
    if power is None or schedule.get("trained_betas") or schedule.get("rescale_betas_zero_snr"):
        raise PrepError(
            f"The base model's noise schedule ({kind}) is not one that prep trains.",
            "It trains linear and scaled_linear ones, without zero-terminal SNR.",
        )
    count = int(schedule.get("num_train_timesteps", 1000))
    betas = torch.linspace(first ** (1 / power), last ** (1 / power), count, dtype=torch.float64) ** power
    says = schedule.get("prediction_type", "epsilon") if prediction == "auto" else prediction
    if says not in ("epsilon", "v_prediction"):
        raise PrepError(f"The base model predicts {says!r}.", "prep trains epsilon and v_prediction.")
    return DDPM((1 - betas).cumprod(0).float(), says, min_snr)
