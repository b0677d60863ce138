"""prep train --dry-run: a twentieth of the run that uses every part of it, and an estimate of the whole run."""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pipeline.duration import format_duration
from pipeline.workspace import Workspace, write_atomic
from training.batch import TrainingImage
from training.checkpoints.run_folder import RunFolder
from training.evaluation.loggers import LOGGERS, check_loggers
from training.evaluation.step_timer import StepTimer
from training.run import run_training, split_dataset
from training.trainer import count_steps, epoch_steps

if TYPE_CHECKING:
    from pipeline.manifest import Manifest
    from pipeline.stage import ProgressFn
    from training.callbacks import Callbacks
    from training.options.train_options import TrainOptions

_FRACTION = 20  # the dry run has a 20th of the steps
_MIN_STEPS = 4  # two before the resume, two after


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """What a dry run did, and what the whole run would take."""

    steps: int  # of the dry run
    total_steps: int  # of the whole run
    parts_run: dict[str, int]  # how often each part was used
    seconds_by_part: dict[str, float]  # seconds of the whole run, by part
    seconds: float  # all of them
    memory: int  # bytes, the most that the process held
    gpu_memory: int  # bytes, the most that was allocated; 0 without one
    folder: str  # of the dry run, relative to the workspace

    def lines(self) -> Iterator[str]:
        """The estimate in lines of text."""
        yield f"ran {self.steps:,} of {self.total_steps:,} steps in {self.folder}"
        yield "used: " + ", ".join(f"{name} {count:,}" for name, count in self.parts_run.items() if count)
        if missing := [name for name, count in self.parts_run.items() if not count]:
            yield f"not used: {', '.join(missing)}"
        yield f"the whole run: about {format_duration(self.seconds)}"
        yield "of which: " + ", ".join(
            f"{name} {format_duration(took)}" for name, took in self.seconds_by_part.items() if took >= 0.05
        )
        gpu = f", {self.gpu_memory / 1e9:.1f} GB of the GPU" if self.gpu_memory else ""
        yield f"memory: {self.memory / 1e9:.1f} GB{gpu}"


def dry_run(config: TrainOptions, manifest: Manifest, workspace: Workspace, report: ProgressFn) -> RunEstimate:
    """Train a twentieth of the run in a separate folder, stopped and resumed in the middle, and export it.

    The folder and manifest of the real run are not changed; caches are shared with it.
    """
    check_loggers(config.validation)  # those of the run: the dry run leaves some out
    samples = split_dataset(config, manifest).train
    total = count_steps(config, samples)
    steps = max(_MIN_STEPS, math.ceil(total / _FRACTION))
    small = dry_run_config(config, steps)
    first, second = StepTimer(stop_at=steps // 2, synchronize=True), StepTimer(synchronize=True)
    run_training(small, manifest, workspace, report, first)
    watch = run_training(small.with_values({"restart": False}), manifest, workspace, report, second)
    assert watch  # a dry run is never kept
    counts = PartCounts.of(config, samples, total)
    parts = estimate_time(first, second, counts)
    found = RunEstimate(
        steps=steps,
        total_steps=total,
        parts_run=count_parts(watch, steps),
        seconds_by_part=parts,
        seconds=sum(parts.values()),
        memory=peak_memory(),
        gpu_memory=peak_gpu_memory(),
        folder=workspace.relative(watch.folder),
    )
    write_atomic(watch.folder / "dry_run.json", json.dumps(asdict(found), indent=2).encode())
    return found


def dry_run_config(config: TrainOptions, steps: int) -> TrainOptions:
    """The options of the dry run: everything that the run does happens at half of the steps and at the end."""
    half, sampled = steps // 2, bool(config.sampling.sample_every_epochs or config.sampling.sample_every_steps)
    return config.with_values(
        {
            "output": f"{config.saving.output[:92]}-dry-run",
            "steps": steps,
            "restart": True,
            "save_every_epochs": 0,
            "save_every_steps": half,
            "validate_every_epochs": 0,
            "validate_every_steps": half,
            "patience": 0,
            "sample_every_epochs": 0,
            "sample_every_steps": steps if sampled else 0,
        }
        | {name: False for name, logger in LOGGERS.items() if logger.uploads}  # a trial is not uploaded
    )


@dataclass(frozen=True, slots=True)
class PartCounts:
    """How often each part occurs in the whole run."""

    steps: int
    validations: int
    samples: int
    saves: int

    @classmethod
    def of(cls, config: TrainOptions, samples: list[TrainingImage], total: int) -> PartCounts:
        ends = list(epoch_ends(config, samples, total))

        def times(every_steps: int, every_epochs: int) -> int:
            due = {total}
            due |= set(range(every_steps, total + 1, every_steps)) if every_steps else set()
            due |= set(ends[every_epochs - 1 :: every_epochs]) if every_epochs else set()
            return len(due)

        return cls(
            total,
            times(config.validation.validate_every_steps, config.validation.validate_every_epochs),
            times(config.sampling.sample_every_steps, config.sampling.sample_every_epochs),
            times(config.saving.save_every_steps, config.saving.save_every_epochs),
        )


def epoch_ends(config: TrainOptions, samples: list[TrainingImage], total: int) -> Iterator[int]:
    """The last step of each epoch that the whole run completes."""
    done, epoch = 0, 0
    while (done := done + len(epoch_steps(config, samples, epoch))) <= total:
        yield done
        epoch += 1


def estimate_time(first: StepTimer, second: StepTimer, counts: PartCounts) -> dict[str, float]:
    """Seconds of the whole run by part, from the two halves of the dry run.

    A step takes the median; parts that run only at some steps take their maximum. The caching of the
    first half is left out, as the real run finds the caches filled.
    """
    both: dict[str, list[float]] = defaultdict(list)
    for meter in (first, second):
        for name, seconds in meter.seconds.items():
            both[name] += seconds
    longest = {name: max(seconds, default=0.0) for name, seconds in both.items()}
    return {
        "loading": second.seconds["prepare"][0],
        "the base model's losses and samples": first.seconds["base"][0],
        "steps": statistics.median(both["step"]) * counts.steps,
        "validation": longest.get("validation", 0.0) * counts.validations,
        "samples": longest.get("samples", 0.0) * counts.samples,
        "checkpoints": longest.get("save", 0.0) * counts.saves,
        "export and verification": second.seconds["publish"][0],
    }


def count_parts(watch: Callbacks, steps: int) -> dict[str, int]:
    """How often each part was used, counted by its results."""
    rows = watch.samples.rows if watch.samples else []
    return {
        "latents": len({sample.pixel_sha256 for sample in watch.run.plan.all}),
        "steps": steps,
        "checkpoints": len(watch.state.manager.steps()),
        "resumes": int(watch.state.progress.step > 0),
        "validations": len(watch.validator.evaluations),
        "samples": len(rows),
        "files": len(RunFolder(watch.folder).result),
        "exported checkpoints": len(RunFolder(watch.folder).exports),
    }


def peak_memory() -> int:
    """Peak memory of this process in bytes; 0 if the system does not report it."""
    if sys.platform == "win32":
        return 0
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def peak_gpu_memory() -> int:
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
