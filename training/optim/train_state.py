"""What training changes: the trained weights, their optimizer and their EMA."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from training.distributed import DistributedContext
from training.optim.lr_schedulers import lr_factor
from training.optim.optimizers import ParamGroup, make_optimizer
from training.options.optimizer import OWN_SCHEDULE

if TYPE_CHECKING:
    import torch

    from training.options.optimizer import OptimizerOptions

    Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class TrainState:
    """Trained weights in float32, with their optimizer and EMA. Tensors change in place; `needed` is filled once."""

    options: OptimizerOptions
    groups: list[ParamGroup]
    weights: Tensors  # float32, by name: the model's own, or the originals of its low-precision copies
    low_precision: list[tuple[torch.Tensor, torch.Tensor]]  # the model's copy, and the trained original
    ema: Tensors  # exponential moving average; empty without one
    optimizer: torch.optim.Optimizer
    distributed: DistributedContext
    needed: set[str] = field(default_factory=set)  # with several processes: weights that get a gradient from any image

    def set_learning_rates(self, step: int, total: int) -> float:
        """Set the learning rates of a step, counted from 0; returns that of the first group."""
        for table, group in zip(self.optimizer.param_groups, self.groups, strict=True):
            if group.lr_by_step:
                table["lr"] = group.lr_by_step(step)
            elif self.options.lr_scheduler != OWN_SCHEDULE:
                table["lr"] = group.lr * lr_factor(self.options, step, total)
        return float(self.optimizer.param_groups[0]["lr"] or 0.0)

    def reduce_gradients(self) -> None:
        """Bring the gradients to float32 and sum them over all processes, in place."""
        import torch

        rounded = [(low.grad, weight) for low, weight in self.low_precision if low.grad is not None]
        wide = [torch.empty_like(weight) for _, weight in rounded]
        if rounded:  # in one launch instead of a thousand
            torch._foreach_copy_(wide, [gradient for gradient, _ in rounded])
        for (_, weight), gradient in zip(rounded, wide, strict=True):
            weight.grad = gradient
        if self.distributed.world_size > 1:
            self._fill_missing_gradients()
        self.distributed.all_reduce_sum(self._gradients())

    def clip_gradients(self) -> torch.Tensor:
        """Scale all gradients so that their norm is at most max_grad_norm; returns the norm before that."""
        import torch

        norm = torch.nn.utils.get_total_norm(self._gradients())
        if self.options.max_grad_norm:
            torch.nn.utils.clip_grads_with_norm_(list(self.weights.values()), self.options.max_grad_norm, norm)
        return norm

    def update_ema(self, step: int) -> None:
        """Move the running average, where there is one, towards the weights; `step` counts from 0."""
        import torch

        if self.ema:
            decay = min(self.options.ema_decay, (1 + step) / (10 + step))  # else the first steps would weigh too long
            torch._foreach_lerp_(list(self.ema.values()), self._parameters(), 1 - decay)

    @contextmanager
    def ema_weights(self) -> Iterator[None]:
        """Use the EMA in place of the trained weights within the context, if there is one."""
        import torch

        kept = [weight.detach().clone() for weight in self._parameters()] if self.ema else []
        if self.ema:
            torch._foreach_copy_(self._parameters(), list(self.ema.values()))
            self.sync_params()
        try:
            yield
        finally:
            if self.ema:
                torch._foreach_copy_(self._parameters(), kept)
                self.sync_params()

    def result(self) -> Tensors:
        """The weights to export, by name: the EMA if there is one, else the trained weights."""
        return self.ema or {name: weight.detach() for name, weight in self.weights.items()}

    def tensors(self) -> Tensors:
        """The tensors of a checkpoint by name: weights, EMA and the optimizer's state."""
        found = {f"weights.{name}": weight.detach() for name, weight in self.weights.items()}
        found |= {f"ema.{name}": value for name, value in self.ema.items()}
        for name, weight in self.weights.items():
            for key, value in self.optimizer.state.get(weight, {}).items():
                if _is_tensor(value):
                    found[f"optimizer.{key}.{name}"] = value
        return found

    def state_json(self) -> dict[str, Any]:
        """The rest of a checkpoint, as JSON: the optimizer's numbers."""
        states = {
            name: {key: value for key, value in self.optimizer.state.get(weight, {}).items() if not _is_tensor(value)}
            for name, weight in self.weights.items()
        }
        tables = [
            {key: value.item() if _is_tensor(value) else value for key, value in table.items() if key != "params"}
            for table in self.optimizer.param_groups
        ]
        return {"states": {name: state for name, state in states.items() if state}, "groups": tables}

    def restore(self, tensors: Tensors, numbers: dict[str, Any]) -> None:
        """Restore the state that `tensors` and `state_json` returned."""
        import torch

        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(tensors[f"weights.{name}"])
            for name, value in self.ema.items():
                value.copy_(tensors[f"ema.{name}"])
        self.sync_params()
        for table, saved in zip(self.optimizer.param_groups, numbers["groups"], strict=True):
            for key, value in saved.items():
                table[key] = tuple(value) if isinstance(table.get(key), tuple) else value
        states: dict[str, dict[str, Any]] = {name: dict(numbers["states"].get(name, {})) for name in self.weights}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "optimizer":
                key, _, weight_name = rest.partition(".")
                states[weight_name][key] = value.to(self.weights[weight_name].device)
        for name, state in states.items():
            if state:
                self.optimizer.state[self.weights[name]] = state

    def _fill_missing_gradients(self) -> None:
        """Set to zero the gradients that only images of other processes have: all processes must sum the same weights.

        Which weights any image has a gradient for depends on the model alone, so the processes compare once.
        """
        import torch

        if not self.needed:
            flags = [0.0 if weight.grad is None else 1.0 for weight in self.weights.values()]
            asked = torch.tensor(flags, device=next(iter(self.weights.values())).device)
            self.distributed.all_reduce_sum([asked])
            self.needed.update(name for name, count in zip(self.weights, asked.tolist(), strict=True) if count)
        for name in self.needed:
            if self.weights[name].grad is None:
                self.weights[name].grad = torch.zeros_like(self.weights[name])

    def _parameters(self) -> list[torch.Tensor]:
        return [weight.detach() for weight in self.weights.values()]

    def _gradients(self) -> list[torch.Tensor]:
        """The gradients that there are: a weight without one is not moved, not by weight decay either."""
        return [weight.grad for weight in self.weights.values() if weight.grad is not None]

    def sync_params(self) -> None:
        """Copy the weights to the model where it computes with rounded copies, and remove all gradients."""
        import torch

        if self.low_precision:
            lows, weights = zip(*self.low_precision, strict=True)
            torch._foreach_copy_([low.detach() for low in lows], [weight.detach() for weight in weights])
        for weight in itertools.chain(self.weights.values(), (low for low, _ in self.low_precision)):
            weight.grad = None


def make_train_state(
    groups: list[ParamGroup], options: OptimizerOptions, distributed: DistributedContext
) -> TrainState:
    """The training state of the groups' weights, which are trained in float32 whatever the model's dtype."""
    import torch

    given = {name: weight for group in groups for name, weight in group.weights.items()}
    if len(given) != sum(len(group.weights) for group in groups):
        raise AssertionError("two groups share the name of a weight")
    weights = {
        name: weight if weight.dtype == torch.float32 else weight.detach().float().requires_grad_()
        for name, weight in given.items()
    }
    trained = [dataclasses.replace(group, weights={name: weights[name] for name in group.weights}) for group in groups]
    average = {name: weight.detach().clone() for name, weight in weights.items()} if options.ema_decay else {}
    copies = [(low, weights[name]) for name, low in given.items() if low is not weights[name]]
    return TrainState(options, groups, weights, copies, average, make_optimizer(trained, options), distributed)


def _is_tensor(value: object) -> bool:
    import torch

    return isinstance(value, torch.Tensor)
