"""The optimizers by name, with all facts about each, and the groups of parameters that they update."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from training.optim.nesterov8bit import nesterov8bit
from training.options.optimizer import OWN_SCHEDULE, OptimizerOptions

if TYPE_CHECKING:
    import torch

ParamTable = list[dict[str, Any]]  # torch's parameter groups


@dataclass(frozen=True, slots=True)
class ParamGroup:
    """Parameters with one learning rate."""

    name: str  # the part of the base model, such as unet, and what sets the group apart within it
    weights: dict[str, torch.Tensor]  # by name, unique among all groups: checkpoints find them by it
    lr: float  # the full rate, which the LR scheduler scales
    lr_by_step: Callable[[int], float] | None = None  # the rate at each step from 0, instead of rate and scheduler


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """What an optimizer is built with: the options, with the optimizer's defaults filled in."""

    beta1: float
    beta2: float
    weight_decay: float
    own_schedule: bool  # the optimizer sets the learning rates itself


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """All facts about an optimizer."""

    build: Callable[[ParamTable, Hyperparameters], torch.optim.Optimizer]
    beta1: bool = True  # whether it has a running mean of gradients
    beta2: float = 0.999  # default; 0: it has no running mean of their squares
    weight_decay: float = 0.01  # default
    lr_free: bool = False  # finds the learning rate itself: the one that is given is a factor of it, usually 1
    own_schedule: bool = False  # can set the rates itself, by --lr-scheduler adafactor
    package: str = ""  # optional package that it needs
    extra: str = ""  # extra of prep that installs the package

    def default_lr(self, options: OptimizerOptions) -> float:
        """The learning rate that is usual whatever is trained; 0: that depends on the method."""
        if options.lr_scheduler == OWN_SCHEDULE:
            return 1e-4  # not used: the optimizer only needs to know that there is a rate
        return 1.0 if self.lr_free else 0.0

    def hyperparameters(self, options: OptimizerOptions) -> Hyperparameters:
        """The options with this optimizer's defaults."""
        return Hyperparameters(
            options.beta1,
            options.beta2 or self.beta2,
            self.weight_decay if options.weight_decay < 0 else options.weight_decay,
            options.lr_scheduler == OWN_SCHEDULE,
        )

    def check_options(self, options: OptimizerOptions) -> None:
        """Raise PrepError when this optimizer does not read an option, or cannot be used as the options say."""
        wrong = next(((text, hint) for holds, text, hint in self._contradictions(options) if holds), None)
        if wrong:
            raise PrepError(f"train: {wrong[0]}", wrong[1])

    def check_package(self) -> None:
        """Raise PrepError when its package is not installed; nothing is imported."""
        if self.package and importlib.util.find_spec(self.package) is None:
            raise _missing(self.package, self.extra)

    def _contradictions(self, options: OptimizerOptions) -> list[tuple[bool, str, str]]:
        """Whether it holds, what is wrong, what to do."""
        name = options.optimizer
        own = options.lr_scheduler == OWN_SCHEDULE
        default = options.learning_rate < 0
        rates = [rate for rate in (1.0 if default else options.learning_rate, *options.rates().values()) if rate]
        return [
            (
                self.lr_free and min(rates, default=1) < 0.01,
                f"{name} finds the learning rate itself; {min(rates, default=0):g} of that is almost nothing.",
                "Use: --learning-rate 1",
            ),
            (
                self.lr_free and len(set(rates)) > 1,
                f"{name} finds one learning rate for all parts.",
                "Give all parts the same rate, or 0 to those that are not to be trained.",
            ),
            (
                own and not self.own_schedule,
                f"lr_scheduler {OWN_SCHEDULE} is the schedule of the optimizer adafactor; {name} has none.",
                "Use: --optimizer adafactor",
            ),
            (
                own and not default and options.learning_rate not in (0, 1e-4),
                f"with lr_scheduler {OWN_SCHEDULE} the optimizer sets the learning rate: learning_rate has no effect.",
                "Leave it out, or use another LR scheduler.",
            ),
            (
                options.beta2 > 0 and not self.beta2,
                f"beta2 has no effect with the optimizer {name}.",
                "Leave it out.",
            ),
            (
                options.beta1 != 0.9 and not self.beta1,
                f"beta1 has no effect with the optimizer {name}, which keeps no mean of gradients.",
                "Leave it out.",
            ),
        ]


def make_optimizer(groups: list[ParamGroup], options: OptimizerOptions) -> torch.optim.Optimizer:
    """The optimizer over the groups' weights, each group at its full rate; PrepError when its package is missing."""
    spec = OPTIMIZERS[options.optimizer]
    rates = {group.lr for group in groups}
    if spec.lr_free and (len(rates) > 1 or any(group.lr_by_step for group in groups)):
        raise PrepError(
            f"train: {options.optimizer} finds one learning rate for all weights, but groups of them have their own.",
            "Use: --optimizer adamw",
        )
    table: ParamTable = [
        {"params": list(group.weights.values()), "lr": group.lr, "name": group.name} for group in groups
    ]
    return spec.build(table, spec.hyperparameters(options))


def _adamw(table: ParamTable, given: Hyperparameters) -> torch.optim.Optimizer:
    import torch

    return torch.optim.AdamW(table, betas=(given.beta1, given.beta2), weight_decay=given.weight_decay, fused=True)


def _adamw8bit(table: ParamTable, given: Hyperparameters) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = _package("bitsandbytes", "8bit").optim.AdamW8bit(
        table, betas=(given.beta1, given.beta2), weight_decay=given.weight_decay
    )
    return optimizer


def _adam(table: ParamTable, given: Hyperparameters) -> torch.optim.Optimizer:
    """Adam, whose weight decay, if any, is decoupled from the gradient as in AdamW."""
    import torch

    return torch.optim.Adam(
        table,
        betas=(given.beta1, given.beta2),
        weight_decay=given.weight_decay,
        decoupled_weight_decay=True,
        fused=True,
    )


def _adafactor(table: ParamTable, given: Hyperparameters) -> torch.optim.Optimizer:
    """At the given rate, or on its own schedule: relative to the weights' size, falling with the root of the steps."""
    from transformers import Adafactor

    own = given.own_schedule
    if own:
        table = [group | {"lr": None} for group in table]
    optimizer: torch.optim.Optimizer = Adafactor(
        table, scale_parameter=own, relative_step=own, weight_decay=given.weight_decay
    )
    return optimizer


def _lion(table: ParamTable, given: Hyperparameters) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = _package("lion_pytorch", "lion").Lion(
        table, betas=(given.beta1, given.beta2), weight_decay=given.weight_decay
    )
    return optimizer


def _nesterov(table: ParamTable, given: Hyperparameters) -> torch.optim.Optimizer:
    import torch

    return torch.optim.SGD(table, momentum=given.beta1, nesterov=True, weight_decay=given.weight_decay, fused=True)


def _nesterov8bit(table: ParamTable, given: Hyperparameters) -> torch.optim.Optimizer:
    _package("bitsandbytes", "8bit")
    return nesterov8bit(table, given.beta1, given.weight_decay)


def _dadaptation(table: ParamTable, given: Hyperparameters) -> torch.optim.Optimizer:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its settings
        optimizer: torch.optim.Optimizer = _package("dadaptation", "dadaptation").DAdaptAdam(
            table, betas=(given.beta1, given.beta2), weight_decay=given.weight_decay, decouple=True
        )
    return optimizer


def _prodigy(table: ParamTable, given: Hyperparameters) -> torch.optim.Optimizer:
    """With its authors' advice for diffusion models: bias correction, and warm-up that does not affect the estimate."""
    with contextlib.redirect_stdout(io.StringIO()):
        optimizer: torch.optim.Optimizer = _package("prodigyopt", "prodigy").Prodigy(
            table,
            betas=(given.beta1, given.beta2),
            weight_decay=given.weight_decay,
            use_bias_correction=True,
            safeguard_warmup=True,
        )
    return optimizer


def _package(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise _missing(name, extra) from None


def _missing(name: str, extra: str) -> PrepError:
    return PrepError(
        f"train: this optimizer needs the package {name.replace('_', '-')}, which is not installed.",
        f"Install it: pip install 'prep-diffusion[{extra}]'",
    )


OPTIMIZERS: dict[str, OptimizerSpec] = {
    "adamw": OptimizerSpec(build=_adamw),
    "adamw8bit": OptimizerSpec(build=_adamw8bit, package="bitsandbytes", extra="8bit"),
    "adam": OptimizerSpec(build=_adam, weight_decay=0.0),
    "adafactor": OptimizerSpec(build=_adafactor, beta1=False, beta2=0.0, weight_decay=0.0, own_schedule=True),
    "lion": OptimizerSpec(build=_lion, beta2=0.99, package="lion_pytorch", extra="lion"),
    "sgd-nesterov": OptimizerSpec(build=_nesterov, beta2=0.0, weight_decay=0.0),
    "sgd-nesterov8bit": OptimizerSpec(
        build=_nesterov8bit, beta2=0.0, weight_decay=0.0, package="bitsandbytes", extra="8bit"
    ),
    "dadaptation": OptimizerSpec(build=_dadaptation, lr_free=True, package="dadaptation", extra="dadaptation"),
    "prodigy": OptimizerSpec(build=_prodigy, lr_free=True, package="prodigyopt", extra="prodigy"),
}
