"""Checkpoints that a run goes on from: all it takes, as safetensors and JSON, whole or not there."""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from training.batch import TrainingStep
from training.optim.train_state import TrainState

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_TENSORS = "state.safetensors"
_NUMBERS = "state.json"
_LAYOUT = 1  # raise it when older checkpoints cannot be gone on from


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as it was read."""

    step: int
    tensors: dict[str, torch.Tensor]
    numbers: dict[str, Any]  # the optimizer's
    about: dict[str, Any]  # what else was given to keep


@dataclass(frozen=True, slots=True)
class CheckpointManager:
    """A run's checkpoints: folders named after their step.

    Randomness and the order of the images are functions of the seed and the step's number, and
    so are the rates: of them nothing has to be kept.
    """

    folder: Path
    state: TrainState

    def save(self, step: int, about: dict[str, Any]) -> None:
        """Write the learner's state as it is after `step`: in a folder aside, which then gets its name."""
        if not self.state.distributed.is_main_process:
            return
        draft, target = self.folder / f".step-{step:08d}.tmp", self._path(step)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        _write_tensors(draft / _TENSORS, self.state.tensors())
        numbers = {"layout": _LAYOUT, "step": step, "optimizer": self.state.state_json(), "about": about}
        (draft / _NUMBERS).write_text(json.dumps(numbers), "utf-8")
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)

    def restore(self, most: int) -> Checkpoint | None:
        """Bring the learner to the newest whole checkpoint of at most `most` steps; None where there is none.

        Later ones are deleted: they are of a longer run than is wanted now.
        """
        from safetensors import SafetensorError

        for step in sorted(self.steps(), reverse=True):
            if step > most:
                self._delete(step)
                continue
            try:
                found = self._read(step)
            except (OSError, SafetensorError, ValueError) as error:
                log.warning("The checkpoint %s is damaged and passed over: %s.", self._path(step), _line(error))
                continue
            self.state.restore(found.tensors, found.numbers)
            return found
        return None

    def load(self, step: int) -> Checkpoint:
        """Bring the learner to the checkpoint of this step, which must be there."""
        found = self._read(step)
        self.state.restore(found.tensors, found.numbers)
        return found

    def check(self, step: TrainingStep) -> None:
        """PrepError, with the ids of the step's batch, when a weight is not finite: then nothing is saved."""
        import torch

        largest = torch.nn.utils.get_total_norm(list(self.state.result().values()), float("inf"))
        if not bool(torch.isfinite(largest)):
            ids = ", ".join(dict.fromkeys(draw.image.id for shown in step.trained for draw in shown.samples))
            raise PrepError(
                f"The weights are not finite after step {step.number}; its batch holds the records {ids}.",
                "Lower the learning rate, or look at these images and captions with: prep preview",
            )

    def prune(self, keep: int, keep_steps: frozenset[int] = frozenset()) -> None:
        """Delete all but the latest `keep` checkpoints, and those of the steps to spare."""
        for step in sorted(self.steps())[:-keep]:
            if step not in keep_steps:
                self._delete(step)

    def steps(self) -> list[int]:
        return [int(path.name.removeprefix("step-")) for path in self.folder.glob("step-*")]

    def _delete(self, step: int) -> None:
        if self.state.distributed.is_main_process:
            shutil.rmtree(self._path(step))

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _read(self, step: int) -> Checkpoint:
        from safetensors.torch import load_file

        numbers = json.loads((self._path(step) / _NUMBERS).read_text("utf-8"))
        if numbers["layout"] != _LAYOUT:
            raise ValueError("another version of prep wrote it")
        return Checkpoint(
            numbers["step"], load_file(self._path(step) / _TENSORS), numbers["optimizer"], numbers["about"]
        )


def _write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors one by one, so that no second copy of them all is made; those that share memory each for itself."""
    from safetensors.torch import save_file

    seen, apart = set[int](), dict[str, "torch.Tensor"]()
    for name, value in tensors.items():
        place = value.untyped_storage().data_ptr()
        apart[name] = value.detach().clone() if place in seen else value.detach().contiguous()
        seen.add(place)
    save_file(apart, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
