"""All options of prep train, composed of groups."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pipeline.stage import Options, group
from pipeline.workspace import Workspace
from training.options.captions import CaptionOptions
from training.options.dataset import DatasetOptions
from training.options.method import MethodOptions
from training.options.model import ModelOptions
from training.options.objective import ObjectiveOptions
from training.options.optimizer import OptimizerOptions
from training.options.performance import PerformanceOptions
from training.options.sampling import SamplingOptions
from training.options.saving import SavingOptions
from training.options.textual_inversion import TextualInversionOptions
from training.options.validation import ValidationOptions


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Options):
    """All options of a training run, by group; as CLI options and recipe keys their names stay flat."""

    name: ClassVar[str] = "train"

    model: ModelOptions = group(ModelOptions)
    dataset: DatasetOptions = group(DatasetOptions)
    captions: CaptionOptions = group(CaptionOptions)
    method: MethodOptions = group(MethodOptions)
    textual_inversion: TextualInversionOptions = group(TextualInversionOptions)
    optimizer: OptimizerOptions = group(OptimizerOptions)
    objective: ObjectiveOptions = group(ObjectiveOptions)
    validation: ValidationOptions = group(ValidationOptions)
    sampling: SamplingOptions = group(SamplingOptions)
    saving: SavingOptions = group(SavingOptions)
    performance: PerformanceOptions = group(PerformanceOptions)

    def folder(self, workspace: Workspace) -> Path:
        """The folder of the run; RunFolder tells what it holds."""
        return workspace.runs / self.saving.output

    def file(self, workspace: Workspace) -> Path:
        """The file of a finished run whose method names it after the run; RunFolder.result is that of any method."""
        return self.folder(workspace) / f"{self.saving.output}.safetensors"
