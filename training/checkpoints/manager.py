"""Checkpoints: the state a run resumes from, as safetensors and JSON, complete or absent."""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError, first_line
from pipeline.save_tensors import save_tensors
from training.batch import TrainingStep
from training.optim.train_state import TrainState

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_TENSORS = "state.safetensors"
_STATE = "state.json"
_LAYOUT = 2  # raise it when a run can no longer resume from older checkpoints


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as read from disk."""

    step: int
    tensors: dict[str, torch.Tensor]
    optimizer_state: dict[str, Any]  # the optimizer's numbers that are no tensors
    progress: dict[str, Any]  # what the caller saved with it


@dataclass(frozen=True, slots=True)
class CheckpointManager:
    """A run's checkpoints: folders named after their step.

    Randomness, the order of the images and the learning rates are functions of the seed and the
    step, so they are not saved.
    """

    folder: Path
    train_state: TrainState

    def save(self, step: int, progress: dict[str, Any]) -> None:
        """Write the training state after `step`: into a temporary folder, which is then renamed.

        OSError when the disk is full; earlier checkpoints stay as they are.
        """
        if not self.train_state.distributed.is_main_process:
            return
        draft, target = self.folder / f".step-{step:08d}.tmp", self._path(step)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        try:
            _write_tensors(draft / _TENSORS, self.train_state.tensors())
            state = {"layout": _LAYOUT, "step": step, "optimizer": self.train_state.state_json(), "progress": progress}
            (draft / _STATE).write_text(json.dumps(state), "utf-8")
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)  # half a checkpoint would keep the disk full
            raise
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)

    def restore_latest(self, max_step: int) -> Checkpoint | None:
        """Restore the newest valid checkpoint of at most `max_step` steps; None if there is none.

        Later checkpoints belong to a longer run than the one asked for, and are deleted.
        """
        from safetensors import SafetensorError

        for step in sorted(self.steps(), reverse=True):
            if step > max_step:
                self._delete(step)
                continue
            try:
                checkpoint = self._read(step)
            except (OSError, SafetensorError, ValueError) as error:
                log.warning("Skipping the damaged checkpoint %s: %s.", self._path(step), first_line(error))
                continue
            self.train_state.restore(checkpoint.tensors, checkpoint.optimizer_state)
            return checkpoint
        return None

    def load(self, step: int) -> Checkpoint:
        """Restore the checkpoint of this step, which must exist."""
        checkpoint = self._read(step)
        self.train_state.restore(checkpoint.tensors, checkpoint.optimizer_state)
        return checkpoint

    def check_finite(self, step: TrainingStep) -> None:
        """Raise PrepError, with the ids of the step's batch, if a weight is not finite, before it is saved."""
        import torch

        largest = torch.nn.utils.get_total_norm(list(self.train_state.result().values()), float("inf"))
        if not bool(torch.isfinite(largest)):
            ids = ", ".join(dict.fromkeys(draw.image.id for trained in step.trained for draw in trained.samples))
            raise PrepError(
                f"The weights are not finite after step {step.number}; its batch holds the records {ids}.",
                "Lower the learning rate, or inspect these images and captions with: prep preview",
            )

    def prune(self, keep: int, keep_steps: frozenset[int] = frozenset()) -> None:
        """Delete all checkpoints but the latest `keep` and those of `keep_steps`."""
        for step in sorted(self.steps())[:-keep]:
            if step not in keep_steps:
                self._delete(step)

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, in no order."""
        return [int(path.name.removeprefix("step-")) for path in self.folder.glob("step-*")]

    def _delete(self, step: int) -> None:
        if self.train_state.distributed.is_main_process:
            shutil.rmtree(self._path(step))

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _read(self, step: int) -> Checkpoint:
        from safetensors.torch import load_file

        state = json.loads((self._path(step) / _STATE).read_text("utf-8"))
        if state["layout"] != _LAYOUT:
            raise ValueError("another version of prep wrote it")
        return Checkpoint(state["step"], load_file(self._path(step) / _TENSORS), state["optimizer"], state["progress"])


def _write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors one by one, without a second copy of all of them; tensors that share memory are separated."""
    seen, separate = set[int](), dict[str, "torch.Tensor"]()
    for name, value in tensors.items():
        address = value.untyped_storage().data_ptr()
        separate[name] = value.detach().clone() if address in seen else value.detach().contiguous()
        seen.add(address)
    save_tensors(separate, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())
