"""Measures the batch size with which a GPU trains the most images per second, for --batch-size 0."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.workspace import write_atomic
from training.batch import SampleRef
from training.performance.execution_modes import EAGER, cudnn_benchmark
from training.performance.step_runner import StepRunner
from training.trainer import forward_backward, make_batch

if TYPE_CHECKING:
    from training.batch import TrainingJob
    from training.distributed import DistributedContext
    from training.setup import TrainingRun

log = logging.getLogger(__name__)

_MAX_BATCH_SIZE = 64
_MIN_GAIN = 1.05  # times the images per second that a batch twice as large must reach
_MAX_MEMORY = 0.9  # of the GPU's: optimizer state, validation and samples need some too


@dataclass(frozen=True, slots=True)
class BatchProbe:
    """The measurement of one batch size."""

    seconds: float  # infinite when memory ran out
    memory: float  # peak use as a share of the GPU's memory


def best_batch_size(probe: Callable[[int], BatchProbe]) -> int:
    """The last of 1, 2, 4, ... that fits and is enough faster than the one before; 1 when none fits."""
    best, images_per_second, size = 1, 0.0, 1
    while size <= _MAX_BATCH_SIZE:
        found = probe(size)
        slow = size / found.seconds < images_per_second * _MIN_GAIN
        if found.memory > _MAX_MEMORY or slow or found.seconds == float("inf"):
            break
        best, images_per_second, size = size, size / found.seconds, size * 2
    return best


def with_batch_size(run: TrainingRun, ranks: DistributedContext, cache: Path, key: str) -> TrainingRun:
    """The run with a batch size; where it has none, the one in the file `cache` for this run and GPU, else measured.

    It is kept because the batch size is part of a run's key: with another one the run would start from step 0.
    """
    import torch

    job = run.job
    if job.config.optimizer.batch_size:
        return run
    measured_for = f"{key} {torch.cuda.get_device_name(job.device)} {ranks.world_size}"
    size = cached_batch_size(cache, measured_for)
    if not size:
        own = best_batch_size(lambda size: probe_batch_size(job, size))
        size = ranks.world_size * -ranks.all_reduce_max(-own)  # the smallest of all processes
        if ranks.is_main_process:
            write_atomic(cache, json.dumps({"measured_for": measured_for, "batch_size": size}).encode())
        log.warning("Batch size %d is the fastest on this GPU.", size)
    config = job.config.with_values({"batch_size": size})
    return replace(run, job=replace(job, config=config), plan=replace(run.plan, config=config))


def cached_batch_size(cache: Path, measured_for: str) -> int:
    """The batch size that was measured for the same run and GPU; 0 when there is none."""
    try:
        found = json.loads(cache.read_text("utf-8"))
        return int(found["batch_size"]) if found["measured_for"] == measured_for else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def probe_batch_size(job: TrainingJob, size: int) -> BatchProbe:
    """Measure a batch of the largest image, `size` times."""
    import torch

    largest = max(job.samples, key=lambda image: image.width * image.height)
    batch = make_batch(job, [SampleRef(largest, repeat) for repeat in range(size)])
    torch.cuda.empty_cache()  # what the VAE left
    torch.cuda.reset_peak_memory_stats(job.device)
    images = torch.full((), float(size), device=job.device)
    with cudnn_benchmark(job.device.type), closing(StepRunner(job, 0)) as runner:
        seconds = runner.measure(partial(forward_backward, job), EAGER, batch, images)
    _, total = torch.cuda.mem_get_info(job.device)
    return BatchProbe(seconds, torch.cuda.max_memory_reserved(job.device) / total)
