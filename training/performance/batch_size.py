"""The batch that a GPU trains fastest with, found by trying: for --batch-size 0."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from pipeline.workspace import write_atomic
from training.batch import SampleRef
from training.performance.execution_modes import EAGER, tuned
from training.performance.step_runner import step_runner

if TYPE_CHECKING:
    from training.batch import TrainingJob
    from training.distributed import DistributedContext
    from training.setup import TrainingRun

log = logging.getLogger(__name__)

_MOST = 64
_GAIN = 1.05  # times the images a second that a batch twice as large must bring
_FULL = 0.9  # of the memory: the optimizer's means, validation and samples come on top


@dataclass(frozen=True, slots=True)
class BatchProbe:
    """How a batch of a size went."""

    seconds: float  # infinite: there was not memory enough
    filled: float  # share of the device's memory at the peak


def best_batch(attempt: Callable[[int], BatchProbe]) -> int:
    """Of 1, 2, 4, ... the last that fits and is worth it; 1 where none fits: what is done then is the study's part."""
    best, rate, size = 1, 0.0, 1
    while size <= _MOST:
        trial = attempt(size)
        if trial.filled > _FULL or size / trial.seconds < rate * _GAIN or trial.seconds == float("inf"):
            break
        best, rate, size = size, size / trial.seconds, size * 2
    return best


def check_batch(batch: int, device: str) -> None:
    """Raise PrepError when there is neither a batch nor a GPU to try batches out on."""
    if not batch and device != "cuda":
        raise PrepError("train: batch 0 tries batches out on a GPU.", "On the processor, give one: --batch-size 1")


def with_batch(run: TrainingRun, ranks: DistributedContext, note: Path, key: str) -> TrainingRun:
    """The run with a batch, if it has none: as `note` remembers it of the same run on the same GPU, else tried out.

    It is remembered because a run with another batch is another run, and would begin anew.
    """
    import torch

    job = run.job
    if job.config.optimizer.batch_size:
        return run
    where = f"{key} {torch.cuda.get_device_name(job.device)} {ranks.world_size}"
    found = remembered(note, where)
    if not found:
        own = best_batch(lambda size: attempt(job, size))
        found = ranks.world_size * -ranks.all_reduce_max(-own)
        if ranks.is_main_process:
            write_atomic(note, json.dumps({"where": where, "batch": found}).encode())
        log.warning("The batch that this GPU trains fastest with: %d.", found)
    config = job.config.with_values({"batch_size": found})
    return replace(run, job=replace(job, config=config), plan=replace(run.plan, config=config))


def remembered(note: Path, where: str) -> int:
    """The batch that was found in the same place; 0 when none was."""
    try:
        found = json.loads(note.read_text("utf-8"))
        return int(found["batch"]) if found["where"] == where else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def attempt(job: TrainingJob, size: int) -> BatchProbe:
    """Show the largest images, so many at once."""
    import torch

    from training.trainer import image_losses, make_batch

    sample = max(job.samples, key=lambda sample: sample.width * sample.height)
    batch = make_batch(job, [SampleRef(sample, number) for number in range(size)])
    torch.cuda.empty_cache()  # of what the VAE left
    torch.cuda.reset_peak_memory_stats(job.device)
    with tuned(job.device.type), step_runner(job, image_losses, 0) as study:
        seconds = study.measure(EAGER, batch, torch.full((), float(size), device=job.device))
    _, total = torch.cuda.mem_get_info(job.device)
    return BatchProbe(seconds, torch.cuda.max_memory_reserved(job.device) / total)
