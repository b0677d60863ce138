"""Files beside a run's checkpoints: each is used as the finished one is, and goes when its checkpoint goes.

While the run goes on they are written unverified, for a proof takes as long as many steps; those
that are left at its end are proven as its own files are.
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
from training.export.artifacts import delete, replace_atomically, write_artifact
from training.export.publish import MAIN, file_metadata
from training.methods.method import ADAPTERS

if TYPE_CHECKING:
    from pipeline.manifest import Manifest
    from training.batch import TrainingStep
    from training.checkpoints.run_state import RunPaths
    from training.optim.train_state import TrainState
    from training.setup import TrainingRun

log = logging.getLogger(__name__)

_NOTE = "exports.json"  # of a run: whose they are, and which step each is of
_SMALL = (*ADAPTERS, "inversion")  # methods whose files are no whole models


@dataclass(frozen=True, slots=True)
class IntermediateExports:
    """A run's files by the step they are of, in its folder, named as kohya's programs name them.

    NAME-000002.safetensors is of the end of epoch 2, NAME-step00000150.safetensors of a step within an epoch.
    """

    run: TrainingRun
    learner: TrainState
    place: RunPaths
    manifest: Manifest

    def export(self, step: TrainingStep) -> None:
        """Write what would be published after this step; the learner stays as it is."""
        if not self.wanted(step) or not self.learner.distributed.is_main_process:
            return
        output = self.run.plan.config.output
        name = f"{output}-{step.epoch:06d}" if step.epoch_ends else f"{output}-step{step.number:08d}"
        with self.learner.ema_weights():
            files = self.run.method.files(self.run.plan.config.save_dtype)
            about = file_metadata(self.run, (step.number, step.epoch), self.manifest, files)
            for end, product in files.items():
                draft = self.place.folder / f".{name}.draft{end}"
                write_artifact(draft, product, about)
                replace_atomically(draft, self.place.folder / f"{name}{end}")
        self._note({**self._kept(), step.number: [f"{name}{end}" for end in files]})

    def prune(self, steps: Collection[int]) -> None:
        """Delete the files of all steps but these."""
        kept = self._kept()
        gone = [step for step in kept if step not in steps]
        if not gone or not self.learner.distributed.is_main_process:
            return
        for step in gone:
            self._discard(kept.pop(step))
        self._note(kept)

    def verify(self) -> None:
        """Load back all files that are left, each by its readers; those that fail lose their names, with the reason."""
        kept = self._kept()
        for step, names in kept.items():
            files = {MAIN if name.endswith(MAIN) else "": self.place.folder / Path(name).name for name in names}
            if not all(path.exists() for path in files.values()):
                continue  # the user has taken them away
            try:
                self.run.method.verify(files)
            except PrepError as fault:
                kept[step] = [self._set_aside(path) for path in files.values()]
                log.warning("The files of step %d are now called %s: %s", step, " and ".join(kept[step]), fault.wrong)
        if kept:
            self._note(kept)

    def _set_aside(self, path: Path) -> str:
        """The name that a file or folder has then."""
        end = MAIN if path.name.endswith(MAIN) else ""
        aside = path.with_name(f"{path.name.removesuffix(end)}.unverified{end}")
        replace_atomically(path, aside)
        return aside.name

    def wanted(self, step: TrainingStep) -> bool:
        """Whether this step is to have files; those of the last one are the run's own."""
        config = self.run.plan.config
        if step.last and (config.keep_weights == "last" or not self.run.plan.validation):
            return False
        return config.export_checkpoints == "on" or (config.export_checkpoints == "auto" and config.method in _SMALL)

    def _kept(self) -> dict[int, list[str]]:
        """The files by step; those of another run under the same name, which this one replaces, are deleted."""
        note = self.place.folder / _NOTE
        if not note.is_file():
            return {}
        found = json.loads(note.read_text("utf-8"))
        if found["run"] == self.place.key:
            return {int(step): names for step, names in found["files"].items()}
        for names in found["files"].values():
            self._discard(names)
        note.unlink()
        return {}

    def _discard(self, names: list[str]) -> None:
        for name in names:
            delete(self.place.folder / Path(name).name)

    def _note(self, files: dict[int, list[str]]) -> None:
        found = {"run": self.place.key, "files": dict(sorted(files.items()))}
        write_atomic(self.place.folder / _NOTE, json.dumps(found, indent=2).encode())
