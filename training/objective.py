"""What the model learns: how a clean latent is mixed with noise, what is predicted, and how much each counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.errors import PrepError
from training.options.objective import FLOW, STEPS, ObjectiveOptions, refuse

if TYPE_CHECKING:
    import torch

TIMES = 1000  # of noise, for every base: 0 is the clean latent


class Objective(Protocol):
    """A training objective. Latents are (B, C, H, W) of unit variance, times (B,) as `sample` draws them."""

    @property
    def prediction(self) -> str:
        """What the model predicts: epsilon, v_prediction, sample or flow."""

    def sample_timesteps(self, generator: torch.Generator, shape: tuple[int, ...]) -> torch.Tensor:
        """One random time for a latent of `shape` (C, h, w): shape (1,)."""

    def validation_timesteps(self, count: int) -> torch.Tensor:
        """So many times without chance, to measure at: the middles of equal parts of those that are trained.

        Only times where there is at least as much noise as image, if any of them is trained: there it is decided
        what an image shows, before them how its finest parts look (https://arxiv.org/abs/2204.00227, section 3).
        """

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """The noisy latent at that time."""

    def target(self, clean: torch.Tensor, noise: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """What a perfect model would predict."""

    def loss(self, prediction: torch.Tensor, target: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """The error of each number of a prediction, unweighted, in float32: the shape of `target`."""

    def weight(self, time: torch.Tensor) -> torch.Tensor:
        """How much an error at that time counts, shape (B,); finite at every time."""

    def model_timestep(self, time: torch.Tensor) -> torch.Tensor:
        """The time as the network is told it."""

    def to(self, device: torch.device) -> Objective:
        """The same objective with its tables on a device."""


@dataclass(frozen=True, slots=True)
class LossType:
    """How an error is measured: squared (l2), or like its square up to about c and then like itself.

    huber is 2c (sqrt(d^2 + c^2) - c), smooth_l1 the same divided by c; c falls from 1 to
    `floor` as the noise grows (https://arxiv.org/abs/2403.16728): by the schedule 'snr' as
    (1 - floor) / (1 + sigma)^2 + floor, where sigma is noise over signal; by 'exponential' as
    floor^(t / 1000); by 'constant' it is `floor` at every time.
    """

    kind: str = "l2"
    schedule: str = "snr"
    floor: float = 0.1

    def of(self, error: torch.Tensor, time: torch.Tensor, sigma: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The measure of each error; `sigma` is asked for the noise over the signal, (B,), if that matters."""
        square = error.square()
        if self.kind == "l2":
            return square
        bend = self._bend(time, sigma).view(-1, 1, 1, 1)
        # sqrt(d^2 + c^2) - c, without the difference of almost equal numbers
        grown = 2 * square / ((square + bend.square()).sqrt() + bend)
        return bend * grown if self.kind == "huber" else grown

    def _bend(self, time: torch.Tensor, sigma: Callable[[], torch.Tensor]) -> torch.Tensor:
        import torch

        if self.schedule == "snr":
            return (1 - self.floor) / (1 + sigma()).square() + self.floor
        share = time.float() / TIMES if self.schedule == "exponential" else torch.ones_like(time, dtype=torch.float32)
        return torch.exp(math.log(self.floor) * share)


@dataclass(frozen=True)
class DDPM:
    """Denoising diffusion in discrete steps (Ho et al. 2020, https://arxiv.org/abs/2006.11239).

    x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise, where a_t is `alphas[t]`, the product of 1 - beta up to t.
    The signal-to-noise ratio is a / (1 - a).
    """

    alphas: torch.Tensor  # (T,) float32, falling
    prediction: str = "epsilon"  # or v_prediction, or sample: the clean latent itself
    min_snr: float = 0.0  # gamma of min-SNR weighting; 0: all times count alike
    debiased: bool = False
    measure: LossType = field(default_factory=LossType)
    times: tuple[int, int] = (0, TIMES)  # those drawn: from, and below

    def sample_timesteps(self, generator: torch.Generator, shape: tuple[int, ...]) -> torch.Tensor:
        import torch

        first, last = (time * len(self.alphas) // TIMES for time in self.times)
        return torch.randint(first, max(last, first + 1), (1,), generator=generator)

    def validation_timesteps(self, count: int) -> torch.Tensor:
        even = int((self.alphas > 0.5).sum()) * TIMES / len(self.alphas)
        return (_middles(_noisy(self.times, even), count) * len(self.alphas) / TIMES).long()

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        signal, spread = self._shares(time)
        return signal * clean + spread * noise

    def target(self, clean: torch.Tensor, noise: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """The noise, x_0, or v = sqrt(a) noise - sqrt(1 - a) x_0 (https://arxiv.org/abs/2202.00512)."""
        if self.prediction != "v_prediction":
            return noise if self.prediction == "epsilon" else clean
        signal, spread = self._shares(time)
        return signal * noise - spread * clean

    def loss(self, prediction: torch.Tensor, target: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return self.measure.of(prediction.float() - target, time, lambda: self._snr(time).rsqrt())

    def weight(self, time: torch.Tensor) -> torch.Tensor:
        """Ones, min-SNR or debiased weights.

        min-SNR (https://arxiv.org/abs/2303.09556): min(snr, gamma), over snr for epsilon, over
        snr + 1 for v. Debiased estimation (https://arxiv.org/abs/2310.08442): 1 / sqrt(snr) for
        epsilon with snr at most 1000, which for x_0 is sqrt(snr); 1 / (snr + 1) for v as kohya has it.
        """
        import torch

        snr = self._snr(time)
        if self.min_snr:
            return {
                "epsilon": (self.min_snr / snr).clamp(max=1),  # so written, it is 1 rather than 0 / 0 at pure noise
                "v_prediction": snr.clamp(max=self.min_snr) / (snr + 1),
                "sample": snr.clamp(max=self.min_snr),
            }[self.prediction]
        if self.debiased:
            most = snr.clamp(max=1000)
            return {"epsilon": most.rsqrt(), "v_prediction": 1 / (snr + 1), "sample": most.sqrt()}[self.prediction]
        return torch.ones_like(snr)

    def model_timestep(self, time: torch.Tensor) -> torch.Tensor:
        return time

    def to(self, device: torch.device) -> DDPM:
        return replace(self, alphas=self.alphas.to(device))

    def _snr(self, time: torch.Tensor) -> torch.Tensor:
        alpha = self.alphas[time]
        return alpha / (1 - alpha)

    def _shares(self, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        alpha = self.alphas[time].view(-1, 1, 1, 1)
        return alpha.sqrt(), (1 - alpha).sqrt()


@dataclass(frozen=True)
class FlowMatch:
    """Rectified flow (Esser et al. 2024, https://arxiv.org/abs/2403.03206), of which the names below are.

    x_s = (1 - s) x_0 + s noise, the model predicts noise - x_0, and time is 1000 s.
    """

    density: str = "logit_normal"  # or uniform, or mode
    bell: tuple[float, float] = (0.0, 1.0)  # center and width of logit_normal
    mode_scale: float = 1.29
    shift: float = 1.0  # towards noise: s becomes shift s / (1 + (shift - 1) s)
    by_size: bool = False  # `shift` is that of 1024 x 1024 pixels, and grows with the square root of their number
    weighting: str = "none"
    measure: LossType = field(default_factory=LossType)
    times: tuple[int, int] = (0, TIMES)

    @property
    def prediction(self) -> str:
        return "flow"

    def sample_timesteps(self, generator: torch.Generator, shape: tuple[int, ...]) -> torch.Tensor:
        """A time of the density, shifted, then squeezed into the range that is trained."""
        import torch

        plain = torch.rand(1, generator=generator)
        normal = torch.randn(1, generator=generator)
        share = {
            "uniform": plain,
            "logit_normal": torch.sigmoid(self.bell[0] + self.bell[1] * normal),
            "mode": 1 - plain - self.mode_scale * (torch.cos(math.pi / 2 * plain).square() - 1 + plain),
        }[self.density]
        shift = self.shift * math.sqrt(shape[-2] * shape[-1] / _CELLS) if self.by_size else self.shift
        first, last = self.times
        return first + (last - first) * shift * share / (1 + (shift - 1) * share)

    def validation_timesteps(self, count: int) -> torch.Tensor:
        return _middles(_noisy(self.times, TIMES / 2), count)

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        share = (time / TIMES).view(-1, 1, 1, 1)
        return (1 - share) * clean + share * noise

    def target(self, clean: torch.Tensor, noise: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return noise - clean

    def loss(self, prediction: torch.Tensor, target: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return self.measure.of(prediction.float() - target, time, lambda: time / (TIMES - time))

    def weight(self, time: torch.Tensor) -> torch.Tensor:
        """Ones; 1 / s^2 (sigma_sqrt), at most that of the thousandth; or 2 / (pi (1 - 2 s + 2 s^2)) (cosmap)."""
        import torch

        share = time / TIMES
        if self.weighting == "sigma_sqrt":
            return share.clamp(min=1 / TIMES) ** -2
        if self.weighting == "cosmap":
            return 2 / (math.pi * (1 - 2 * share + 2 * share.square()))
        return torch.ones_like(share)

    def model_timestep(self, time: torch.Tensor) -> torch.Tensor:
        return time

    def to(self, device: torch.device) -> FlowMatch:
        return self


def _noisy(times: tuple[int, int], even: float) -> tuple[float, float]:
    """The part of these times from `even` on, where image and noise are equal; all of them if they end before."""
    first, last = times
    return (max(first, even), last) if even < last else times


def _middles(times: tuple[float, float], count: int) -> torch.Tensor:
    import torch

    first, last = times
    return first + (last - first) * (torch.arange(count) + 0.5) / count


_CELLS = 128 * 128  # of the latent of 1024 x 1024 pixels


def flow_match(schedule: dict[str, Any], noise: ObjectiveOptions) -> FlowMatch:
    """The objective of a flow-matching base's scheduler configuration."""
    refuse(noise, STEPS, "the base model is trained by flow matching")
    if schedule.get("use_dynamic_shifting") and not noise.flow_shift:
        raise PrepError("The base model's shift of times depends on the image's size.", "Give one: --flow-shift 3")
    return FlowMatch(
        density="logit_normal" if noise.timestep_sampling == "auto" else noise.timestep_sampling,
        bell=(noise.logit_mean, noise.logit_std),
        mode_scale=noise.mode_scale,
        shift=noise.flow_shift or float(schedule.get("shift", 1.0)),
        by_size=noise.flow_shift_by_size,
        weighting=noise.weighting_scheme,
        measure=LossType(noise.loss_type, noise.huber_schedule, noise.huber_c),
        times=(noise.min_timestep, noise.max_timestep),
    )


def ddpm(schedule: dict[str, Any], noise: ObjectiveOptions) -> DDPM:
    """The objective of a diffusers scheduler configuration, where the options do not say otherwise."""
    refuse(noise, FLOW, "the base model is not trained by flow matching")
    says = schedule.get("prediction_type", "epsilon") if noise.prediction_type == "auto" else noise.prediction_type
    if says == "unknown":  # of a single file of Stable Diffusion 2.x
        raise PrepError(
            "The base model's file does not say whether it predicts the noise or v.",
            "Say it: --prediction-type v_prediction for the models of 768 pixels, --prediction-type epsilon for those of 512.",
        )
    if says not in ("epsilon", "v_prediction", "sample"):
        raise PrepError(f"The base model predicts {says!r}.", "prep trains epsilon, v_prediction and sample.")
    zero = {"auto": bool(schedule.get("rescale_betas_zero_snr")), "on": True, "off": False}[noise.zero_terminal_snr]
    if zero and says == "epsilon":
        raise PrepError(
            "With a zero-terminal SNR the last time is pure noise, from which prediction epsilon learns nothing.",
            "Leave it out: --zero-terminal-snr off. Or, for a base that predicts v: --prediction-type v_prediction",
        )
    return DDPM(
        alphas=(_zero_terminal(_alphas(schedule)) if zero else _alphas(schedule)).float(),
        prediction=says,
        min_snr=noise.min_snr_gamma,
        debiased=noise.debiased_estimation,
        measure=LossType(noise.loss_type, noise.huber_schedule, noise.huber_c),
        times=(noise.min_timestep, noise.max_timestep),
    )


def _alphas(schedule: dict[str, Any]) -> torch.Tensor:
    """The cumulative products of 1 - beta, float64."""
    import torch

    kind = schedule.get("beta_schedule", "linear")
    power = {"linear": 1, "scaled_linear": 2}.get(kind)
    if power is None or schedule.get("trained_betas"):
        raise PrepError(
            f"The base model's noise schedule ({kind}) is not one that prep trains.",
            "It trains linear and scaled_linear ones.",
        )
    first, last = schedule.get("beta_start", 0.0001), schedule.get("beta_end", 0.02)
    count = int(schedule.get("num_train_timesteps", TIMES))
    betas = torch.linspace(first ** (1 / power), last ** (1 / power), count, dtype=torch.float64) ** power
    return (1 - betas).cumprod(0)


def _zero_terminal(alphas: torch.Tensor) -> torch.Tensor:
    """The same schedule stretched until nothing is left at its end (https://arxiv.org/abs/2305.08891, algorithm 1)."""
    root = alphas.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()
