"""What moves the weights: groups of them with their rates, and the optimizers by name."""

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
from training.options.optimizer import ADAFACTOR_SCHEDULE, LR_FREE_OPTIMIZERS

if TYPE_CHECKING:
    import torch

    from training.options.optimizer import OptimizerOptions

ParamTable = list[dict[str, Any]]  # torch's parameter groups


@dataclass(frozen=True, slots=True)
class ParamGroup:
    """Weights that learn at one rate; a rate of its own course stands in `pace`."""

    name: str  # the part, such as unet, and what sets the group apart within it
    weights: dict[str, torch.Tensor]  # by name, unique among all groups: checkpoints find them by it
    lr: float  # the full one, which the schedule scales
    lr_by_step: Callable[[int], float] | None = None  # the rate at each step from 0, instead of rate and schedule


def make_optimizer(groups: list[ParamGroup], learning: OptimizerOptions) -> torch.optim.Optimizer:
    """The optimizer over the groups' weights, each group at its full rate; PrepError when its package is missing."""
    rates = {group.lr for group in groups}
    if learning.optimizer in LR_FREE_OPTIMIZERS and (len(rates) > 1 or any(group.lr_by_step for group in groups)):
        raise PrepError(
            f"train: {learning.optimizer} finds one rate for all weights, but groups of them have their own.",
            "Use the optimizer adamw.",
        )
    table: ParamTable = [
        {"params": list(group.weights.values()), "lr": group.lr, "name": group.name} for group in groups
    ]
    return OPTIMIZERS[learning.optimizer](table, learning)


def _adamw(table: ParamTable, learning: OptimizerOptions) -> torch.optim.Optimizer:
    import torch

    return torch.optim.AdamW(table, betas=_betas(learning), weight_decay=_decay(learning, 0.01), fused=True)


def _adamw8bit(table: ParamTable, learning: OptimizerOptions) -> torch.optim.Optimizer:
    made: torch.optim.Optimizer = _package("adamw8bit").optim.AdamW8bit(
        table, betas=_betas(learning), weight_decay=_decay(learning, 0.01)
    )
    return made


def _adam(table: ParamTable, learning: OptimizerOptions) -> torch.optim.Optimizer:
    """Adam with what decay is asked for as AdamW has it: apart from the gradient."""
    import torch

    decay = _decay(learning, 0.0)
    return torch.optim.Adam(table, betas=_betas(learning), weight_decay=decay, decoupled_weight_decay=True, fused=True)


def _adafactor(table: ParamTable, learning: OptimizerOptions) -> torch.optim.Optimizer:
    """At the rate given, or on its own course: relative to the weights' size, falling with the root of the steps."""
    from transformers import Adafactor

    own = learning.lr_scheduler == ADAFACTOR_SCHEDULE
    if own:
        table = [group | {"lr": None} for group in table]
    made: torch.optim.Optimizer = Adafactor(
        table, scale_parameter=own, relative_step=own, weight_decay=_decay(learning, 0.0)
    )
    return made


def _lion(table: ParamTable, learning: OptimizerOptions) -> torch.optim.Optimizer:
    made: torch.optim.Optimizer = _package("lion").Lion(
        table, betas=_betas(learning, 0.99), weight_decay=_decay(learning, 0.01)
    )
    return made


def _nesterov(table: ParamTable, learning: OptimizerOptions) -> torch.optim.Optimizer:
    import torch

    decay = _decay(learning, 0.0)
    return torch.optim.SGD(table, momentum=learning.beta1, nesterov=True, weight_decay=decay, fused=True)


def _nesterov8bit(table: ParamTable, learning: OptimizerOptions) -> torch.optim.Optimizer:
    _package("sgd-nesterov8bit")
    return nesterov8bit(table, learning.beta1, _decay(learning, 0.0))


def _dadaptation(table: ParamTable, learning: OptimizerOptions) -> torch.optim.Optimizer:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it was asked for
        made: torch.optim.Optimizer = _package("dadaptation").DAdaptAdam(
            table, betas=_betas(learning), weight_decay=_decay(learning, 0.01), decouple=True
        )
    return made


def _prodigy(table: ParamTable, learning: OptimizerOptions) -> torch.optim.Optimizer:
    """With its authors' advice for diffusion models: bias correction, and warm-up without an effect on the estimate."""
    with contextlib.redirect_stdout(io.StringIO()):
        made: torch.optim.Optimizer = _package("prodigy").Prodigy(
            table,
            betas=_betas(learning),
            weight_decay=_decay(learning, 0.01),
            use_bias_correction=True,
            safeguard_warmup=True,
        )
    return made


OPTIMIZERS: dict[str, Callable[[ParamTable, OptimizerOptions], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adamw8bit": _adamw8bit,
    "adam": _adam,
    "adafactor": _adafactor,
    "lion": _lion,
    "sgd-nesterov": _nesterov,
    "sgd-nesterov8bit": _nesterov8bit,
    "dadaptation": _dadaptation,
    "prodigy": _prodigy,
}


def _betas(learning: OptimizerOptions, usual: float = 0.999) -> tuple[float, float]:
    return learning.beta1, learning.beta2 or usual


def _decay(learning: OptimizerOptions, usual: float) -> float:
    return usual if learning.weight_decay < 0 else learning.weight_decay


# The optional package of each optimizer that has one, and the extra that installs it.
_PACKAGES: dict[str, tuple[str, str]] = {
    "adamw8bit": ("bitsandbytes", "8bit"),
    "sgd-nesterov8bit": ("bitsandbytes", "8bit"),
    "lion": ("lion_pytorch", "lion"),
    "dadaptation": ("dadaptation", "dadaptation"),
    "prodigy": ("prodigyopt", "prodigy"),
}


def need_package(optimizer: str) -> None:
    """PrepError when the package of an optimizer is not installed; looks without importing it."""
    name, extra = _PACKAGES.get(optimizer, ("", ""))
    if name and importlib.util.find_spec(name) is None:
        raise _missing(name, extra)


def _package(optimizer: str) -> Any:
    name, extra = _PACKAGES[optimizer]
    try:
        return importlib.import_module(name)
    except ImportError:
        raise _missing(name, extra) from None


def _missing(name: str, extra: str) -> PrepError:
    return PrepError(
        f"train: this optimizer needs the package {name.replace('_', '-')}, which is not installed.",
        f"Install it: pip install 'prep-diffusion[{extra}]'",
    )
