"""prep train: trains an adapter, an embedding or a whole model on the dataset."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pipeline.history import HistoryStep, Model
from pipeline.ranks import is_main_process
from pipeline.stage import DatasetStage, group
from pipeline.workspace import Workspace
from training.check_options import check_options
from training.checkpoints.run_folder import SUMMARY, RunFolder
from training.data.folders import FolderPair, read_folders
from training.data.masks import ALPHA
from training.evaluation.run_notes import run_notes
from training.evaluation.step_timer import StepTimer
from training.options.train_options import TrainOptions
from training.run_key import VERSION, input_digests, models_of

if TYPE_CHECKING:
    from pipeline.manifest import Manifest
    from pipeline.record import Record
    from pipeline.stage import ProgressFn

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Train(DatasetStage):
    """Train a LoRA or another method on the dataset. The trained file is written to runs/."""

    name: ClassVar[str] = "train"
    version: ClassVar[int] = VERSION
    reads: ClassVar[str] = "build"
    names_content: ClassVar[tuple[str, ...]] = ("base", "vae", "init_from", "masks")
    names_input: ClassVar[tuple[str, ...]] = ("data", "reg_data")
    libraries: ClassVar[tuple[str, ...]] = ("torch", "diffusers", "transformers", "peft")

    config: TrainOptions = group(TrainOptions)

    def check(self) -> None:
        check_options(self.config)

    def models(self, workspace: Workspace) -> tuple[Model, ...]:
        return models_of(self.config.model, workspace)

    def inputs(self, workspace: Workspace) -> dict[str, str]:
        return input_digests(self.config, workspace)

    def own_source(self, workspace: Workspace, report: ProgressFn) -> tuple[list[Record], HistoryStep] | None:
        """The folders that --data names, instead of the dataset that build wrote."""
        layout = self.layout(workspace)
        if layout is None:
            return None
        found = read_folders(layout, workspace, report)
        for remark in found.remarks:
            log.warning(remark)
        return found.records, found.step

    def layout(self, workspace: Workspace) -> FolderPair | None:
        """The folders that --data names, and how they are read; None without --data."""
        options = self.config.dataset
        if not options.data:
            return None
        reg = workspace.resolve(options.reg_data) if options.reg_data else None
        return FolderPair(workspace.resolve(options.data), reg, self.config.captions.wildcards, options.resolution)

    def notes(self, manifest: Manifest) -> tuple[str, ...]:
        """What validation says of the run's checkpoints, and the outliers."""
        return run_notes(self.config.folder(Workspace(manifest.path.parent.parent)) / SUMMARY)

    @property
    def needs_sources(self) -> bool:
        """Whether masks are the transparency of the user's own files."""
        return self.config.dataset.masks == ALPHA

    @property
    def forced(self) -> bool:
        """Whether a finished run starts again."""
        return self.config.saving.restart

    def missing_outputs(self, manifest: Manifest, workspace: Workspace) -> str:
        folder = RunFolder(self.config.folder(workspace))
        return "" if folder.result else f"the result in {workspace.relative(folder.path)} is"

    def run(self, manifest: Manifest, workspace: Workspace, report: ProgressFn) -> Iterator[list[Record]]:
        from training.run import run_training

        # Before torch is imported: its threads spin while they wait for each other, and with another busy
        # program on 2 cores that made a step nine times as long (105 s against 12 s for 12 steps).
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        run_training(self.config, manifest, workspace, report, StepTimer())
        if not is_main_process():
            raise SystemExit(0)  # the first of several processes writes the manifest
        yield from manifest.batches()
