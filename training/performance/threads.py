"""The number of CPU threads that compute a training step."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from training.performance.memory_estimate import count_parameters

if TYPE_CHECKING:
    from training.batch import TrainingJob

# Parameters of a denoiser below which threads wait for each other longer than they compute: with 4 million, 300 steps
# took 347 s in two threads on two cores, and 93 s in one. Stable Diffusion 1.x has 860 million.
SMALL_DENOISER = 50_000_000


@contextlib.contextmanager
def suitable_threads(job: TrainingJob) -> Iterator[None]:
    """Within it, a small denoiser on the CPU gets one thread, unless OMP_NUM_THREADS is set."""
    import torch

    if job.device.type != "cpu" or "OMP_NUM_THREADS" in os.environ or count_parameters(job.denoiser) > SMALL_DENOISER:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
