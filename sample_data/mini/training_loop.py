"""How the small models learn: steps, rates, averaged weights, and a file that any run goes on from exactly."""

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

Loss = Callable[[int, Any], "torch.Tensor"]  # of a step and its random numbers
_REPORT, _SAVE = 50, 180  # steps between lines, seconds between files
_MEMORIES = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class Course:
    """How long and how fast: the rate rises, stays, and falls to nothing over the last share of the steps.

    It stays level in between, so that a course may be made longer while it runs.
    """

    steps: int
    rate: float
    warm: int = 200
    cool: float = 0.2
    keep: float = 0.999  # what the averaged weights keep of themselves at a step
    seed: int = 0

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, the first being 0."""
        falling = (self.steps - step) / max(1.0, self.cool * self.steps)
        return self.rate * min(1.0, (step + 1) / max(1, self.warm), falling)

    def keep_at(self, step: int) -> float:
        """Young averages forget faster: the first weights are noise."""
        return min(self.keep, (1 + step) / (10 + step))


def practise(net: Any, loss: Loss, course: Course, file: Path | None = None) -> None:
    """Teach `net` until the course's end, and leave the averaged weights in it.

    With a `file` the run is kept there every few minutes and goes on from it; every step draws its
    random numbers from the seed and its own number, so that a pause changes nothing.
    """
    import torch

    weights = dict(net.named_parameters())
    optimizer = torch.optim.AdamW(weights.values(), course.rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    state = net.state_dict()  # shares its memory with the net
    average = {name: value.clone() for name, value in state.items()}
    done, seconds = _resume(file, state, average, (weights, optimizer))
    began, saved, mean = time.monotonic() - seconds, time.monotonic(), 0.0
    for step in range(done, course.steps):
        for group in optimizer.param_groups:
            group["lr"] = course.rate_at(step)
        random = torch.Generator().manual_seed(course.seed * 1_000_003 + step)
        error = loss(step, random)
        optimizer.zero_grad()
        torch.autograd.backward(error)
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
        _blend(average, state, course.keep_at(step))
        mean += error.item() / _REPORT
        if (step + 1) % _REPORT == 0:
            minutes = (time.monotonic() - began) / 60
            click.echo(f"step {step + 1:,} of {course.steps:,}, loss {mean:.4f}, {minutes:.1f} min", err=True)
            mean = 0.0
        if file and (step + 1 == course.steps or time.monotonic() - saved > _SAVE):
            _save(file, state, average, (weights, optimizer), (step + 1, time.monotonic() - began))
            saved = time.monotonic()
    net.load_state_dict(average)


def load_average(net: Any, file: Path) -> int:
    """Put the averaged weights of a kept run into `net`; returns after how many steps."""
    tensors, about = _read(file)
    net.load_state_dict({name: tensors[f"average.{name}"] for name in net.state_dict()})
    return int(about["steps"])


def _blend(average: dict[str, Any], state: dict[str, Any], keep: float) -> None:
    import torch

    names = [name for name, value in average.items() if value.is_floating_point()]
    with torch.no_grad():
        torch._foreach_lerp_([average[name] for name in names], [state[name] for name in names], 1 - keep)
        for name in average.keys() - set(names):
            average[name].copy_(state[name])


def _save(
    file: Path, state: dict[str, Any], average: dict[str, Any], learner: tuple[Any, Any], at: tuple[int, float]
) -> None:
    weights, optimizer = learner
    tensors = {f"weight.{name}": value for name, value in state.items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    for memory in _MEMORIES:
        tensors |= {f"{memory}.{name}": optimizer.state[weight][memory] for name, weight in weights.items()}
    write_tensors(file, tensors, {"steps": str(at[0]), "seconds": f"{at[1]:.0f}"})


def _resume(
    file: Path | None, state: dict[str, Any], average: dict[str, Any], learner: tuple[Any, Any]
) -> tuple[int, float]:
    """Take up a kept run; returns its steps and its seconds, 0 and 0 where there is none."""
    import torch

    if file is None or not file.is_file():
        return 0, 0.0
    tensors, about = _read(file)
    weights, optimizer = learner
    with torch.no_grad():
        for name, value in state.items():
            value.copy_(tensors[f"weight.{name}"])
            average[name].copy_(tensors[f"average.{name}"])
    step = torch.tensor(float(about["steps"]))
    for name, weight in weights.items():
        like = torch.empty_like(weight, requires_grad=False)  # the optimizer wants its memories laid out as the weights
        memories = {memory: like.clone().copy_(tensors[f"{memory}.{name}"]) for memory in _MEMORIES}
        optimizer.state[weight] = memories | {"step": step.clone()}
    return int(about["steps"]), float(about["seconds"])


def _read(file: Path) -> tuple[dict[str, Any], dict[str, str]]:
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(file, "pt") as opened:
        about = opened.metadata()
    return load_file(file), about
