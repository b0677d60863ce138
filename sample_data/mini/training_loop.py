"""The training loop of the small models: learning rate schedule, EMA weights, and checkpoints to resume from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from training.export.tensor_file import write_tensors

if TYPE_CHECKING:
    import torch

Loss = Callable[[int, Any], "torch.Tensor"]  # of a step and its torch.Generator
_REPORT_STEPS, _SAVE_SECONDS = 50, 180  # steps between log lines, seconds between checkpoints
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class TrainingSchedule:
    """Steps and learning rate: linear warmup, constant, linear decay to zero over the last share of the steps.

    It is constant in between, so that a run may be extended.
    """

    steps: int
    learning_rate: float
    warmup: int = 200
    decay_share: float = 0.2
    ema_decay: float = 0.999  # share of the averaged weights that a step keeps
    seed: int = 0

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        falling = (self.steps - step) / max(1.0, self.decay_share * self.steps)
        return self.learning_rate * min(1.0, (step + 1) / max(1, self.warmup), falling)

    def ema_decay_at(self, step: int) -> float:
        """The EMA decay of a step: lower at first, because the first weights are noise."""
        return min(self.ema_decay, (1 + step) / (10 + step))


def train_model(model: Any, loss: Loss, schedule: TrainingSchedule, checkpoint: Path | None = None) -> None:
    """Train `model` to the end of the schedule, and leave the EMA weights in it.

    With a `checkpoint` path the run is saved every few minutes and resumed from there. Each step seeds
    its generator with the seed and its own number, so resuming changes nothing.
    """
    import torch

    weights = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(
        weights.values(), schedule.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    state = model.state_dict()  # shares memory with the model
    run = _Run(weights, optimizer, state, {name: value.clone() for name, value in state.items()})
    done, seconds = run.resume(checkpoint)
    start, saved, mean_loss = time.monotonic() - seconds, time.monotonic(), 0.0
    for step in range(done, schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate_at(step)
        generator = torch.Generator().manual_seed(schedule.seed * 1_000_003 + step)
        step_loss = loss(step, generator)
        optimizer.zero_grad()
        torch.autograd.backward(step_loss)
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
        run.update_ema(schedule.ema_decay_at(step))
        mean_loss += step_loss.item() / _REPORT_STEPS
        if (step + 1) % _REPORT_STEPS == 0:
            minutes = (time.monotonic() - start) / 60
            click.echo(f"step {step + 1:,} of {schedule.steps:,}, loss {mean_loss:.4f}, {minutes:.1f} min", err=True)
            mean_loss = 0.0
        if checkpoint and (step + 1 == schedule.steps or time.monotonic() - saved > _SAVE_SECONDS):
            run.save(checkpoint, step + 1, time.monotonic() - start)
            saved = time.monotonic()
    model.load_state_dict(run.average)


def load_ema(model: Any, checkpoint: Path) -> int:
    """Load the EMA weights of a saved run into `model`; returns its number of steps."""
    tensors, metadata = _read(checkpoint)
    model.load_state_dict({name: tensors[f"average.{name}"] for name in model.state_dict()})
    return int(metadata["steps"])


@dataclass(frozen=True, slots=True)
class _Run:
    """All tensors of a run: trained weights, AdamW's moments, the model's state with buffers, and its EMA."""

    weights: dict[str, Any]
    optimizer: Any
    state: dict[str, Any]
    average: dict[str, Any]

    def update_ema(self, decay: float) -> None:
        import torch

        names = [name for name, value in self.average.items() if value.is_floating_point()]
        averages, values = ([tensors[name] for name in names] for tensors in (self.average, self.state))
        with torch.no_grad():
            torch._foreach_lerp_(averages, values, 1 - decay)
            for name in self.average.keys() - set(names):
                self.average[name].copy_(self.state[name])

    def save(self, checkpoint: Path, steps: int, seconds: float) -> None:
        tensors = {f"weight.{name}": value for name, value in self.state.items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        for moment in _MOMENTS:
            tensors |= {f"{moment}.{name}": self.optimizer.state[w][moment] for name, w in self.weights.items()}
        write_tensors(checkpoint, tensors, {"steps": str(steps), "seconds": f"{seconds:.0f}"})

    def resume(self, checkpoint: Path | None) -> tuple[int, float]:
        """Load a saved run; returns its steps and seconds, 0 and 0 without one."""
        import torch

        if checkpoint is None or not checkpoint.is_file():
            return 0, 0.0
        tensors, metadata = _read(checkpoint)
        with torch.no_grad():
            for name, value in self.state.items():
                value.copy_(tensors[f"weight.{name}"])
                self.average[name].copy_(tensors[f"average.{name}"])
        step = torch.tensor(float(metadata["steps"]))
        for name, weight in self.weights.items():
            like = torch.empty_like(weight, requires_grad=False)  # fused AdamW needs the weights' memory layout
            moments = {moment: like.clone().copy_(tensors[f"{moment}.{name}"]) for moment in _MOMENTS}
            self.optimizer.state[weight] = moments | {"step": step.clone()}
        return int(metadata["steps"]), float(metadata["seconds"])


def _read(checkpoint: Path) -> tuple[dict[str, Any], dict[str, str]]:
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(checkpoint, "pt") as opened:
        metadata = opened.metadata()
    return load_file(checkpoint), metadata
