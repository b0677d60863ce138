"""Exported files of checkpoints: usable like the finished file, to choose the best one by eye.

All that --save-every-epochs and --save-every-steps ask for are kept, whatever checkpoints are; the file of a step that
was only the best so far is deleted with its checkpoint.

During the run they are written without verification, which takes as long as many steps; the files that
are left at its end are verified as the finished file is.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from pipeline.workspace import write_atomic
from training.checkpoints.run_folder import EXPORTS
from training.checkpoints.run_state import TrainingProgress
from training.export.artifacts import delete, replace_atomically, write_artifact
from training.export.publish import MAIN, export_name, file_metadata
from training.methods.table import METHODS
from training.precision import dtype_of

if TYPE_CHECKING:
    from pipeline.manifest import Manifest
    from training.batch import TrainingStep
    from training.checkpoints.run_state import RunPaths
    from training.optim.train_state import TrainState
    from training.setup import TrainingRun

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IntermediateExports:
    """A run's exported checkpoints in its folder, named as kohya's scripts name them.

    NAME-000002.safetensors is of the end of epoch 2, NAME-step00000150.safetensors of a step within an epoch.
    """

    run: TrainingRun
    train_state: TrainState
    paths: RunPaths
    manifest: Manifest

    def export(self, step: TrainingStep) -> None:
        """Write what would be published after this step; the training state does not change."""
        if not self.wanted(step) or not self.train_state.distributed.is_main_process:
            return
        config = self.run.plan.config
        stem = export_name(self.run)
        name = f"{stem}-{step.epoch:06d}" if step.epoch_ends else f"{stem}-step{step.number:08d}"
        with self.train_state.ema_weights():
            artifacts = self.run.method.files(dtype_of(config.saving.save_precision))
            metadata = file_metadata(self.run, TrainingProgress(step.number, step.epoch), self.manifest, artifacts)
            for suffix, artifact in artifacts.items():
                draft = self.paths.folder / f".{name}.draft{suffix}"
                write_artifact(draft, artifact, metadata)
                replace_atomically(draft, self.paths.folder / f"{name}{suffix}")
        index, saving = self._read_index(), config.saving
        index[step.number] = [f"{name}{suffix}" for suffix in artifacts]
        asked = step.due(saving.save_every_steps, saving.save_every_epochs)
        self._write_index(index, self._read_unasked() | (set() if asked else {step.number}))

    def prune(self, steps: Collection[int]) -> None:
        """Delete the files of the steps that no option asked for, but these."""
        index, unasked = self._read_index(), self._read_unasked()
        stale = [step for step in index if step in unasked and step not in steps]
        if not stale or not self.train_state.distributed.is_main_process:
            return
        for step in stale:
            self._delete(index.pop(step))
        self._write_index(index, unasked - set(stale))

    def verify(self) -> None:
        """Load all files that are left, each with its own readers; those that fail are renamed to .unverified."""
        index = self._read_index()
        for step, names in index.items():
            files = {MAIN if name.endswith(MAIN) else "": self.paths.folder / Path(name).name for name in names}
            if not all(path.exists() for path in files.values()):
                continue  # the user moved or deleted them
            try:
                self.run.method.verify(files)
            except PrepError as error:
                index[step] = [self._mark_unverified(path) for path in files.values()]
                log.warning("Renamed the files of step %d to %s: %s", step, " and ".join(index[step]), error.wrong)
        if index:
            self._write_index(index, self._read_unasked())

    def wanted(self, step: TrainingStep) -> bool:
        """Whether this step gets a file; the last step's is the run's own."""
        config = self.run.plan.config
        if step.last and (config.validation.keep_weights == "last" or not self.run.plan.validation):
            return False
        return config.saving.export_checkpoints == "on" or (
            config.saving.export_checkpoints == "auto" and not METHODS[config.method.method].saves_whole_model
        )

    def _mark_unverified(self, path: Path) -> str:
        """Rename a file or folder that failed; returns its new name."""
        suffix = MAIN if path.name.endswith(MAIN) else ""
        target = path.with_name(f"{path.name.removesuffix(suffix)}.unverified{suffix}")
        replace_atomically(path, target)
        return target.name

    def _read_index(self) -> dict[int, list[str]]:
        """File names by step, of this run; those of another run of the same name are not listed."""
        path = self.paths.folder / EXPORTS
        if not path.is_file():
            return {}
        index = json.loads(path.read_text("utf-8"))
        if index["run"] == self.paths.key:
            return {int(step): names for step, names in index["files"].items()}
        return {}

    def _read_unasked(self) -> set[int]:
        """The steps of this run whose files no option asked for: each was the best so far."""
        path = self.paths.folder / EXPORTS
        index = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        return set(index.get("unasked", ())) if index.get("run") == self.paths.key else set()

    def _delete(self, names: list[str]) -> None:
        for name in names:
            delete(self.paths.folder / Path(name).name)

    def _write_index(self, files: dict[int, list[str]], unasked: set[int]) -> None:
        kept = sorted(unasked & files.keys())
        index = {"run": self.paths.key, "files": dict(sorted(files.items())), "unasked": kept}
        write_atomic(self.paths.folder / EXPORTS, json.dumps(index, indent=2).encode())
