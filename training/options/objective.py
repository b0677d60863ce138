"""Options of prep train: noise and loss."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.stage import Options, option


@dataclass(frozen=True, kw_only=True)
class ObjectiveOptions(Options):
    """What the model predicts, at which timesteps, and how the loss is computed and weighted."""

    name: ClassVar[str] = "train"
    section: ClassVar[str] = "Noise and loss"

    prediction_type: Literal["auto", "epsilon", "v_prediction", "sample"] = option(
        "auto", "What the base model predicts; auto: as its configuration says."
    )
    zero_terminal_snr: Literal["auto", "on", "off"] = option(
        "auto",
        "Rescale the noise schedule so that the last timestep is pure noise; auto: as the base model does.",
    )
    noise_offset: float = option(
        0.0,
        "Strength of noise that is constant over each channel, 0 to 1; lets it learn brightness. Usual: 0 to 0.1.",
        low=0,
        high=1,
    )
    input_perturbation: float = option(
        0.0, "Strength of noise that is added but not to be predicted, 0 to 1. Usual: 0 to 0.1.", low=0, high=1
    )
    min_timestep: int = option(0, "Lowest timestep to train at, of 1000; 0: the clean image.", low=0, high=999)
    max_timestep: int = option(
        1000, "Upper bound of the timesteps to train at, not included; 1000: pure noise.", low=1, high=1000
    )
    min_snr_gamma: float = option(0.0, "Gamma of min-SNR loss weighting; 0: off. Usual: 5.", low=0)
    debiased_estimation: bool = option(False, "Weight the loss by debiased estimation: noisier timesteps count more.")
    loss_type: Literal["l2", "huber", "smooth_l1"] = option(
        "l2", "Loss function; huber and smooth_l1 are less sensitive to outliers."
    )
    huber_c: float = option(0.1, "Error above which huber and smooth_l1 grow linearly. Usual: 0.1.", low=1e-6, high=1)
    huber_schedule: Literal["snr", "exponential", "constant"] = option(
        "snr", "How huber_c falls from 1 as the noise grows."
    )
    timestep_sampling: Literal["auto", "uniform", "logit_normal", "mode"] = option(
        "auto", "Distribution of the timesteps, for flow-matching base models; auto: logit_normal."
    )
    logit_mean: float = option(0.0, "Mean of logit_normal; above 0: noisier timesteps. Usual: 0.", low=-10, high=10)
    logit_std: float = option(1.0, "Standard deviation of logit_normal. Usual: 1.", low=0.01, high=10)
    mode_scale: float = option(
        1.29, "How much timestep_sampling mode prefers the middle timesteps. Usual: 1.29.", low=-1, high=1.75
    )
    flow_shift: float = option(
        0.0,
        "Shift of the timesteps towards noise at 1024 x 1024, for flow-matching base models; 0: the base model's own.",
        low=0,
    )
    flow_shift_by_size: bool = option(False, "Let the shift grow with the square root of the number of pixels.")
    weighting_scheme: Literal["none", "sigma_sqrt", "cosmap"] = option(
        "none", "Loss weighting, for flow-matching base models."
    )

    def check(self) -> None:
        wrong = next((text for holds, *text in ObjectiveOptions._contradictions(self) if holds), None)
        if wrong:
            raise PrepError(f"train: {wrong[0]}", wrong[1])

    def _contradictions(self) -> list[tuple[bool, str, str]]:
        """Whether it holds, what is wrong, what to do."""
        flow, steps = self.set_of(FLOW), self.set_of(STEPS)
        plain = self.set_of(("huber_c", "huber_schedule")) if self.loss_type == "l2" else []
        other = self.timestep_sampling in ("uniform", "mode")
        bell = self.set_of(("logit_mean", "logit_std")) if other else []
        return [
            (
                self.zero_terminal_snr == "on" and self.prediction_type == "epsilon",
                "with zero_terminal_snr the last timestep is pure noise, which prediction_type epsilon cannot learn.",
                "Use a v-prediction base model: --prediction-type v_prediction",
            ),
            (
                self.min_snr_gamma > 0 and self.debiased_estimation,
                "min_snr_gamma and debiased_estimation are two weightings of the same loss.",
                "Leave one out.",
            ),
            (
                self.min_timestep >= self.max_timestep,
                f"min_timestep is {self.min_timestep} and max_timestep {self.max_timestep}: no timestep is left.",
                "For example: --min-timestep 0 --max-timestep 1000",
            ),
            (bool(plain), f"{_no_effect(plain)} with loss_type l2.", "Use: --loss-type huber"),
            (
                bool(bell),
                f"{_no_effect(bell)} with timestep_sampling {self.timestep_sampling}.",
                "Use: --timestep-sampling logit_normal",
            ),
            (
                self.timestep_sampling != "mode" and bool(self.set_of(("mode_scale",))),
                f"mode_scale has no effect with timestep_sampling {self.timestep_sampling}.",
                "Use: --timestep-sampling mode",
            ),
            (
                bool(flow and steps),
                f"{_and(flow)} can only be used with flow-matching base models, {_and(steps)} only with others.",
                "Leave one of them out.",
            ),
        ]

    def set_of(self, names: tuple[str, ...]) -> list[str]:
        """Those of these options that differ from their defaults."""
        return [
            field.name for field in dataclasses.fields(ObjectiveOptions) if field.name in names and self._is_set(field)
        ]

    def _is_set(self, field: dataclasses.Field[object]) -> bool:
        return bool(getattr(self, field.name) != field.default)


# Options that only one kind of base model has: flow matching, or diffusion with discrete steps.
FLOW = (
    "timestep_sampling",
    "logit_mean",
    "logit_std",
    "mode_scale",
    "flow_shift",
    "flow_shift_by_size",
    "weighting_scheme",
)
STEPS = ("prediction_type", "zero_terminal_snr", "min_snr_gamma", "debiased_estimation")


def refuse(noise: ObjectiveOptions, names: tuple[str, ...], base: str) -> None:
    """PrepError when one of these options is set, which has no effect on such a base model."""
    if given := noise.set_of(names):
        raise PrepError(f"train: {_no_effect(given)}: {base}.", "Leave it out.")


def _and(names: list[str]) -> str:
    return " and ".join(names)


def _no_effect(names: list[str]) -> str:
    return f"{_and(names)} {'has' if len(names) == 1 else 'have'} no effect"
