"""prep train: an adapter, a fine-tuned model or an embedding, from the data set that build laid out."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.history import HistoryStep, Model
from pipeline.ranks import is_main_process
from pipeline.stage import DatasetStage, option
from pipeline.workspace import Workspace, file_sha256
from training.checkpoints.checkpoint_callback import SavingOptions
from training.data.captions import CaptionOptions
from training.data.dataset import DataOptions
from training.data.folders import FolderPair, read_folders
from training.data.masks import Masks
from training.evaluation.run_notes import run_notes
from training.evaluation.step_timer import StepTimer
from training.evaluation.validation import EVAL_ONLY_OPTIONS, ValidationOptions
from training.methods.method import MethodOptions
from training.methods.textual_inversion import TextualInversionOptions, check_inversion
from training.models.base_model import find_base, with_vae
from training.objective_options import ObjectiveOptions
from training.optim.lr_schedulers import ADAFACTOR_SCHEDULE
from training.optim.options import OptimizerOptions
from training.performance.execution_modes import PerformanceOptions
from training.sampling.sample_callback import SamplingOptions

if TYPE_CHECKING:
    import torch

    from pipeline.manifest import Manifest
    from pipeline.record import Record
    from pipeline.stage import ProgressFn
    from pipeline.workspace import Workspace
    from training.models.family import Family

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Train(
    DataOptions,
    CaptionOptions,
    MethodOptions,
    TextualInversionOptions,
    OptimizerOptions,
    ObjectiveOptions,
    ValidationOptions,
    SamplingOptions,
    SavingOptions,
    PerformanceOptions,
    DatasetStage,
):
    """Train a LoRA or another method on the data set. What is trained goes to runs/."""

    name: ClassVar[str] = "train"
    version: ClassVar[int] = 2  # the usual rate, and what is validated: at noisy times, the latest of equals
    reads: ClassVar[str] = "build"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "diffusers", "transformers", "peft")

    base: str = option(
        "mini",
        "Base model, Stable Diffusion 1.x, 2.x, XL or 3.5: the id of a pulled model, a diffusers folder, "
        "a single .safetensors or .ckpt file, "
        "or 'mini', a tiny untrained one for trying the line out.",
        cache_key=False,  # its weights' hash is part of the key instead
    )
    vae: str = option(
        "",
        "Another VAE than the base model's own: a folder or a single file. It is not trained.",
        metavar="PATH",
        cache_key=False,  # its weights' hash is
    )
    precision: Literal["auto", "fp32", "bf16"] = option(
        "auto", "Number format of the base while training; auto is bf16 on a GPU that has it, else fp32."
    )
    device: Literal["auto", "cpu", "cuda"] = option(
        "auto", "Where to train; auto takes a GPU if there is one.", cache_key=False
    )

    def check(self) -> None:
        for part in (
            DataOptions,
            CaptionOptions,
            MethodOptions,
            TextualInversionOptions,
            OptimizerOptions,
            ObjectiveOptions,
            ValidationOptions,
            SamplingOptions,
            SavingOptions,
            PerformanceOptions,
        ):
            part.check(self)
        check_inversion(self)

    def models(self, workspace: Workspace) -> tuple[Model, ...]:
        base = with_vae(find_base(self.base, workspace), self.vae, workspace)
        own = Model(base.name, base.sha256, base.revision)
        return (own, Model("vae", base.vae)) if self.vae else (own,)

    def inputs(self, workspace: Workspace) -> dict[str, str]:
        """The masks beside the images, and the file to train on.

        The transparency of sources is part of what the manifest names.
        """
        found = {"masks": Masks(self.masks, workspace, 1).digest()} if self.masks else {}
        former = self.init_file(workspace)
        return found | ({"file to train on": file_sha256(former)} if former else {})

    def own_source(self, workspace: Workspace, report: ProgressFn) -> tuple[list[Record], HistoryStep] | None:
        """The folders that --data names, instead of what build laid out."""
        if not self.data:
            return None
        reg = workspace.resolve(self.reg_data) if self.reg_data else None
        found = read_folders(FolderPair(workspace.resolve(self.data), reg), workspace, report)
        for remark in found.remarks:
            log.warning(remark)
        return found.records, found.step

    def notes(self, manifest: Manifest) -> tuple[str, ...]:
        """What validation says of the run's checkpoints, and the images that stand out."""
        return run_notes(self.file(Workspace(manifest.path.parent.parent)).with_name("run.json"))

    @property
    def forced(self) -> bool:
        """Whether a finished run starts again."""
        return self.restart

    def missing_outputs(self, manifest: Manifest, workspace: Workspace) -> str:
        file = self.file(workspace)
        return "" if file.is_file() or file.with_name(self.output).is_dir() else f"{file.name} is"

    def run(self, manifest: Manifest, workspace: Workspace, report: ProgressFn) -> Iterator[list[Record]]:
        from training.run import run_training

        # Before torch is imported: its threads spin while they wait for each other, and beside another
        # busy program that made a step on 2 cores nine times as long (105 s against 12 s for 12 steps).
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        run_training(self, manifest, workspace, report, StepTimer())
        if not is_main_process():
            raise SystemExit(0)  # the first of several processes writes what came of it
        yield from manifest.batches()

    def check_learning_rates(self, family: Family) -> None:
        """PrepError when a rate is given for a part that the base has not, or none is left for those it has."""
        rates = self.rates()
        if self.text_encoder_2_lr > 0 and "text_encoder_2" not in family.targets:
            raise PrepError(
                f"train: text_encoder_2_rate was given, but {family.title} has no second text encoder.", "Leave it out."
            )
        if not self.learning_rate and not any(rate for part, rate in rates.items() if part in family.targets):
            raise PrepError("train: all learning rates are 0.", "Give at least one, for example: --learning-rate 1e-4")

    def file(self, workspace: Workspace) -> Path:
        return workspace.runs / self.output / f"{self.output}.safetensors"

    def key(self, manifest: Manifest, workspace: Workspace) -> str:
        """The same key, the same course: a checkpoint of it can be gone on from.

        Where the rates do not depend on how long the run is to be, it may become longer.
        """
        params = {name: value for name, value in self.params().items() if name not in EVAL_ONLY_OPTIONS}
        params |= self.inputs(workspace)
        if self.lr_scheduler in ("constant", ADAFACTOR_SCHEDULE):
            params = {name: value for name, value in params.items() if name not in ("steps", "epochs")}
        return HistoryStep(self.name, self.version, params, manifest.digest, self.models(workspace)).key

    def text_encoder_dtype(self, part: str, family: Family, device: torch.device) -> torch.dtype:
        """The number format of a text encoder: float32 of those that can learn, `precision` of the others, as T5."""
        import torch

        return torch.bfloat16 if self.uses_bf16(device) and part not in family.targets else torch.float32

    def uses_bf16(self, device: torch.device) -> bool:
        """Whether the base is held in bfloat16."""
        import torch

        if self.precision != "auto":
            return self.precision == "bf16"
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
