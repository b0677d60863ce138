"""Training objectives: how noise is added, what the model predicts, and how losses are weighted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.errors import PrepError
from training.options.objective import FLOW, STEPS, ObjectiveOptions, refuse

if TYPE_CHECKING:
    import torch

TIMESTEPS = 1000  # of every base model; 0 is the clean latent


class Objective(Protocol):
    """A training objective. Latents are (B, C, H, W) of unit variance, timesteps (B,) as `sample_timesteps` returns."""

    @property
    def prediction(self) -> str:
        """What the model predicts: epsilon, v_prediction, sample or flow."""

    def sample_timesteps(self, generator: torch.Generator, shape: tuple[int, ...]) -> torch.Tensor:
        """One random timestep for a latent of `shape` (C, h, w): shape (1,)."""

    def validation_timesteps(self, count: int) -> torch.Tensor:
        """Fixed timesteps, (count,): the middles of equal parts of the trained range.

        Only those with at least as much noise as signal, where any of these is trained: they decide what an image
        shows, the others its finest details (https://arxiv.org/abs/2204.00227, section 3).
        """

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The noisy latents at these timesteps."""

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """What a perfect model would predict."""

    def loss(self, prediction: torch.Tensor, target: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The unweighted loss of each element, in float32 and the shape of `target`."""

    def weight(self, timesteps: torch.Tensor) -> torch.Tensor:
        """The weight of losses at these timesteps, (B,); finite at every timestep."""

    def model_timestep(self, timesteps: torch.Tensor) -> torch.Tensor:
        """The timesteps as the model takes them."""

    def to(self, device: torch.device) -> Objective:
        """The same objective with its tables on a device."""


@dataclass(frozen=True, slots=True)
class LossType:
    """The loss of a difference d: d^2 (l2), or about d^2 for |d| < c and linear above (huber, smooth_l1).

    huber is 2c (sqrt(d^2 + c^2) - c), smooth_l1 the same divided by c. c falls from 1 to `minimum` with the noise
    (https://arxiv.org/abs/2403.16728): by the schedule 'snr' it is (1 - minimum) / (1 + sigma)^2 + minimum, where
    sigma is noise over signal; by 'exponential' minimum^(t / 1000); by 'constant' `minimum` at every timestep.
    """

    kind: str = "l2"
    schedule: str = "snr"
    minimum: float = 0.1

    def loss(
        self, difference: torch.Tensor, timesteps: torch.Tensor, sigma: Callable[[], torch.Tensor]
    ) -> torch.Tensor:
        """The loss of each element, in the shape of `difference`; `sigma` computes noise over signal, (B,)."""
        square = difference.square()
        if self.kind == "l2":
            return square
        c = self._huber_c(timesteps, sigma).view(-1, 1, 1, 1)
        # 2 (sqrt(d^2 + c^2) - c), without subtracting almost equal numbers
        smooth = 2 * square / ((square + c.square()).sqrt() + c)
        return c * smooth if self.kind == "huber" else smooth

    def _huber_c(self, timesteps: torch.Tensor, sigma: Callable[[], torch.Tensor]) -> torch.Tensor:
        import torch

        if self.schedule == "snr":
            return (1 - self.minimum) / (1 + sigma()).square() + self.minimum
        exponent = timesteps.float() / TIMESTEPS
        if self.schedule == "constant":
            exponent = torch.ones_like(exponent)
        return torch.exp(math.log(self.minimum) * exponent)


@dataclass(frozen=True)
class DDPM:
    """Denoising diffusion in discrete steps (Ho et al. 2020, https://arxiv.org/abs/2006.11239).

    x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise, where a_t is `alphas[t]`, the product of 1 - beta up to t.
    The signal-to-noise ratio is a / (1 - a).
    """

    alphas: torch.Tensor  # (T,) float32, falling
    prediction: str = "epsilon"  # or v_prediction, or sample: the clean latent itself
    min_snr_gamma: float = 0.0  # 0: no min-SNR weighting
    debiased_estimation: bool = False
    loss_type: LossType = field(default_factory=LossType)
    timestep_range: tuple[int, int] = (0, TIMESTEPS)  # of those that are trained: first, and end

    def sample_timesteps(self, generator: torch.Generator, shape: tuple[int, ...]) -> torch.Tensor:
        import torch

        first, end = (timestep * len(self.alphas) // TIMESTEPS for timestep in self.timestep_range)
        return torch.randint(first, max(end, first + 1), (1,), generator=generator)

    def validation_timesteps(self, count: int) -> torch.Tensor:
        equal = int((self.alphas > 0.5).sum()) * TIMESTEPS / len(self.alphas)
        return (_middles(_noisy_part(self.timestep_range, equal), count) * len(self.alphas) / TIMESTEPS).long()

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        signal_scale, noise_scale = self._scales(timesteps)
        return signal_scale * latents + noise_scale * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The noise, x_0, or v = sqrt(a) noise - sqrt(1 - a) x_0 (https://arxiv.org/abs/2202.00512)."""
        if self.prediction != "v_prediction":
            return noise if self.prediction == "epsilon" else latents
        signal_scale, noise_scale = self._scales(timesteps)
        return signal_scale * noise - noise_scale * latents

    def loss(self, prediction: torch.Tensor, target: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return self.loss_type.loss(prediction.float() - target, timesteps, lambda: self._snr(timesteps).rsqrt())

    def weight(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Ones, min-SNR weights or those of debiased estimation.

        min-SNR (https://arxiv.org/abs/2303.09556): min(snr, gamma), divided by snr for epsilon and by snr + 1 for v.
        Debiased estimation (https://arxiv.org/abs/2310.08442): 1 / sqrt(snr) for epsilon with snr at most 1000, which
        for x_0 is sqrt(snr); 1 / (snr + 1) for v, as in kohya's sd-scripts.
        """
        import torch

        snr = self._snr(timesteps)
        if self.min_snr_gamma:
            return {
                "epsilon": (self.min_snr_gamma / snr).clamp(max=1),  # in this form it is not 0 / 0 at pure noise, but 1
                "v_prediction": snr.clamp(max=self.min_snr_gamma) / (snr + 1),
                "sample": snr.clamp(max=self.min_snr_gamma),
            }[self.prediction]
        if self.debiased_estimation:
            limited = snr.clamp(max=1000)
            weights = {"epsilon": limited.rsqrt(), "v_prediction": 1 / (snr + 1), "sample": limited.sqrt()}
            return weights[self.prediction]
        return torch.ones_like(snr)

    def model_timestep(self, timesteps: torch.Tensor) -> torch.Tensor:
        return timesteps

    def to(self, device: torch.device) -> DDPM:
        return replace(self, alphas=self.alphas.to(device))

    def _snr(self, timesteps: torch.Tensor) -> torch.Tensor:
        alpha = self.alphas[timesteps]
        return alpha / (1 - alpha)

    def _scales(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        alpha = self.alphas[timesteps].view(-1, 1, 1, 1)
        return alpha.sqrt(), (1 - alpha).sqrt()


@dataclass(frozen=True)
class FlowMatch:
    """Rectified flow (Esser et al. 2024, https://arxiv.org/abs/2403.03206, which the names below are from).

    x_s = (1 - s) x_0 + s noise; the model predicts noise - x_0, and the timestep is 1000 s.
    """

    timestep_sampling: str = "logit_normal"  # or uniform, or mode
    logit_mean: float = 0.0
    logit_std: float = 1.0
    mode_scale: float = 1.29
    shift: float = 1.0  # towards noise: s becomes shift s / (1 + (shift - 1) s)
    shift_by_size: bool = False  # `shift` is that of 1024 x 1024 pixels, and grows with the square root of the pixels
    weighting_scheme: str = "none"
    loss_type: LossType = field(default_factory=LossType)
    timestep_range: tuple[int, int] = (0, TIMESTEPS)

    @property
    def prediction(self) -> str:
        return "flow"

    def sample_timesteps(self, generator: torch.Generator, shape: tuple[int, ...]) -> torch.Tensor:
        """A timestep of the distribution, shifted, then scaled to the trained range."""
        import torch

        uniform = torch.rand(1, generator=generator)
        normal = torch.randn(1, generator=generator)
        s = {
            "uniform": uniform,
            "logit_normal": torch.sigmoid(self.logit_mean + self.logit_std * normal),
            "mode": 1 - uniform - self.mode_scale * (torch.cos(math.pi / 2 * uniform).square() - 1 + uniform),
        }[self.timestep_sampling]
        shift = self.shift * math.sqrt(shape[-2] * shape[-1] / _REFERENCE) if self.shift_by_size else self.shift
        first, end = self.timestep_range
        return first + (end - first) * shift * s / (1 + (shift - 1) * s)

    def validation_timesteps(self, count: int) -> torch.Tensor:
        return _middles(_noisy_part(self.timestep_range, TIMESTEPS / 2), count)

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        s = (timesteps / TIMESTEPS).view(-1, 1, 1, 1)
        return (1 - s) * latents + s * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return noise - latents

    def loss(self, prediction: torch.Tensor, target: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return self.loss_type.loss(prediction.float() - target, timesteps, lambda: timesteps / (TIMESTEPS - timesteps))

    def weight(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Ones; 1 / s^2, where s is at least 0.001 (sigma_sqrt); or 2 / (pi (1 - 2 s + 2 s^2)) (cosmap)."""
        import torch

        s = timesteps / TIMESTEPS
        if self.weighting_scheme == "sigma_sqrt":
            return s.clamp(min=1 / TIMESTEPS) ** -2
        if self.weighting_scheme == "cosmap":
            return 2 / (math.pi * (1 - 2 * s + 2 * s.square()))
        return torch.ones_like(s)

    def model_timestep(self, timesteps: torch.Tensor) -> torch.Tensor:
        return timesteps

    def to(self, device: torch.device) -> FlowMatch:
        return self


_REFERENCE = 128 * 128  # latent pixels of 1024 x 1024 pixels


def _noisy_part(timesteps: tuple[int, int], equal: float) -> tuple[float, float]:
    """The part of a range above `equal`, where signal and noise are equal; all of the range if it ends before."""
    first, end = timesteps
    return (max(first, equal), end) if equal < end else timesteps


def _middles(timesteps: tuple[float, float], count: int) -> torch.Tensor:
    import torch

    first, end = timesteps
    return first + (end - first) * (torch.arange(count) + 0.5) / count


def flow_match(scheduler: dict[str, Any], options: ObjectiveOptions) -> FlowMatch:
    """The objective of a flow-matching model, from its scheduler's configuration and the options."""
    refuse(options, STEPS, "the base model is trained by flow matching")
    if scheduler.get("use_dynamic_shifting") and not options.flow_shift:
        raise PrepError("The timestep shift of the base model depends on the image size.", "Set one: --flow-shift 3")
    return FlowMatch(
        timestep_sampling="logit_normal" if options.timestep_sampling == "auto" else options.timestep_sampling,
        logit_mean=options.logit_mean,
        logit_std=options.logit_std,
        mode_scale=options.mode_scale,
        shift=options.flow_shift or float(scheduler.get("shift", 1.0)),
        shift_by_size=options.flow_shift_by_size,
        weighting_scheme=options.weighting_scheme,
        loss_type=LossType(options.loss_type, options.huber_schedule, options.huber_c),
        timestep_range=(options.min_timestep, options.max_timestep),
    )


def ddpm(scheduler: dict[str, Any], options: ObjectiveOptions) -> DDPM:
    """The objective of a diffusion model, from its scheduler's configuration in diffusers' format and the options."""
    refuse(options, FLOW, "the base model is not trained by flow matching")
    auto = options.prediction_type == "auto"
    prediction = scheduler.get("prediction_type", "epsilon") if auto else options.prediction_type
    if prediction == "unknown":  # of a single file of Stable Diffusion 2.x
        raise PrepError(
            "The base model's file does not say whether it predicts the noise or v.",
            "Set it: --prediction-type v_prediction for models of 768 pixels, --prediction-type epsilon for those of "
            "512.",
        )
    if prediction not in ("epsilon", "v_prediction", "sample"):
        raise PrepError(f"The base model predicts {prediction!r}.", "prep trains epsilon, v_prediction and sample.")
    zero_snr = {"auto": bool(scheduler.get("rescale_betas_zero_snr")), "on": True, "off": False}
    zero = zero_snr[options.zero_terminal_snr]
    if zero and prediction == "epsilon":
        raise PrepError(
            "With zero terminal SNR the last timestep is pure noise, from which epsilon prediction learns nothing.",
            "Use: --zero-terminal-snr off; or, for a base model that predicts v: --prediction-type v_prediction",
        )
    return DDPM(
        alphas=(_zero_terminal_snr(_alphas(scheduler)) if zero else _alphas(scheduler)).float(),
        prediction=prediction,
        min_snr_gamma=options.min_snr_gamma,
        debiased_estimation=options.debiased_estimation,
        loss_type=LossType(options.loss_type, options.huber_schedule, options.huber_c),
        timestep_range=(options.min_timestep, options.max_timestep),
    )


def _alphas(scheduler: dict[str, Any]) -> torch.Tensor:
    """The cumulative products of 1 - beta, float64."""
    import torch

    kind = scheduler.get("beta_schedule", "linear")
    power = {"linear": 1, "scaled_linear": 2}.get(kind)
    if power is None or scheduler.get("trained_betas"):
        raise PrepError(
            f"prep does not train the base model's noise schedule ({kind}).",
            "It trains linear and scaled_linear schedules.",
        )
    first, last = scheduler.get("beta_start", 0.0001), scheduler.get("beta_end", 0.02)
    count = int(scheduler.get("num_train_timesteps", TIMESTEPS))
    betas = torch.linspace(first ** (1 / power), last ** (1 / power), count, dtype=torch.float64) ** power
    return (1 - betas).cumprod(0)


def _zero_terminal_snr(alphas: torch.Tensor) -> torch.Tensor:
    """The schedule rescaled so that its last alpha is 0 (https://arxiv.org/abs/2305.08891, algorithm 1)."""
    root = alphas.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()
