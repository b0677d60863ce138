"""How many threads share a step on the processor."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from training.performance.memory_estimate import count_parameters

if TYPE_CHECKING:
    from training.batch import TrainingJob

# Numbers of a denoiser: its layers are then so small that threads wait for each other longer than they compute. With
# 4 million, 300 steps took 347 s in two threads on two cores, and 93 s in one. Stable Diffusion's has 860 million.
SMALL = 50_000_000


@contextlib.contextmanager
def suited_threads(job: TrainingJob) -> Iterator[None]:
    """One thread for a small denoiser on the processor, unless OMP_NUM_THREADS says how many."""
    import torch

    if job.device.type != "cpu" or "OMP_NUM_THREADS" in os.environ or count_parameters(job.denoiser) > SMALL:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
