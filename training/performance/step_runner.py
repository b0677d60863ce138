"""What a step computes: errors and gradients, as fast as the device can and in the memory that it has."""

from __future__ import annotations

import gc
import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from training.performance.cuda_graphs import AFTER, Graphs
from training.performance.execution_modes import (
    PLAIN,
    Way,
    checkpoint_blocks,
    fastest,
    possible,
    prepare_attention,
    put,
    tuned,
)
from training.performance.frozen_convs import forget_inputs, remember_inputs
from training.performance.memory_estimate import told

if TYPE_CHECKING:
    import torch

    from training.trainer import Batch, Job

    Pair = tuple[torch.Tensor, torch.Tensor]
    Errors = Callable[[Job, Batch], Pair]

log = logging.getLogger(__name__)

_ROUNDS = 5  # of a measurement, of which the middle one counts


class Study:
    """Teaches the weights batches. What it finds out about the device stays for the next step."""

    def __init__(self, job: Job, errors: Errors, steps: int) -> None:
        self.job, self.errors, self.steps = job, errors, steps
        self.weights = [weight for group in job.groups for weight in group.weights.values()]
        self.sizes = len({(sample.width, sample.height) for sample in job.samples})
        self.ways = possible(job.config, job.device.type, job.live_text)
        self.way: Way = PLAIN
        self.chosen = False
        self.graphs: Graphs | None = None
        self.checkpointed = False
        self.parts = 1  # of each batch, one after another
        if job.device.type == "cuda":
            prepare_attention(job.denoiser, job.config)
            forget_inputs(job.denoiser)
        if job.config.gradient_checkpointing == "on":
            self._checkpoint()

    def step(self, batches: Sequence[Batch | None], pictures: int, seed: int) -> list[Pair]:
        """Set the weights' gradients to what a step's batches teach; each batch's errors and weights.

        `pictures` are those of the step, of all processes; `seed` is of what draws inside the model.
        Without enough memory the step is done again in a way that takes less, and so are all that
        follow; PrepError when there is none left.
        """
        import torch

        with tuned(self.job.device.type):
            return self._step(batches, torch.full((), float(pictures), device=self.job.device), seed)

    def _step(self, batches: Sequence[Batch | None], share: torch.Tensor, seed: int) -> list[Pair]:
        import torch

        largest = max((batch for batch in batches if batch), key=len, default=None)
        if not self.chosen and largest:
            self.choose(largest, share)
        while True:
            torch.manual_seed(seed)
            self._begin()
            try:
                return [self._show(batch, share) for batch in batches]
            except torch.OutOfMemoryError:
                pass
            # Not above: there the failure still holds all that the step had computed.
            self._climb(len(largest or ()))

    def choose(self, batch: Batch, share: torch.Tensor) -> None:
        """Take the fastest way for this batch; where there is only one, without measuring."""
        self.chosen = True
        if len(self.ways) == 1:
            self._use(self.ways[0])
            return
        way, seconds = fastest(self.ways, lambda way: self.measure(way, batch, share), self.steps)
        self._use(way)
        others = [f"{1000 * took:.1f} ms {other.title}" for other, took in seconds.items() if other is not way]
        log.warning("A batch takes %.1f ms %s; %s.", 1000 * seconds[way], way.title, ", ".join(others))

    def measure(self, way: Way, batch: Batch, share: torch.Tensor) -> float:
        """Seconds for a batch, there and back; infinite when the way does not work here."""
        try:
            self._use(way)
            for _ in range(AFTER + 1):
                self._begin()
                self._show(batch, share)
            spans = [self._timed(batch, share) for _ in range(_ROUNDS)]
        except (
            RuntimeError
        ) as error:  # out of memory, or a compiler that fails; where nothing else works, it comes again
            log.warning("A step %s does not work here: %s", way.title, str(error).strip().partition("\n")[0])
            return math.inf
        return math.inf if self.graphs and self.graphs.broken else statistics.median(spans)

    def close(self) -> None:
        """Leave the denoiser as it was."""
        self._use(PLAIN)
        if self.job.device.type == "cuda":
            remember_inputs(self.job.denoiser)
        if self.checkpointed:
            self.job.denoiser.disable_gradient_checkpointing()

    def _timed(self, batch: Batch, share: torch.Tensor) -> float:
        self._wait()
        began = time.perf_counter()
        self._begin()
        self._show(batch, share)
        self._wait()
        return time.perf_counter() - began

    def _wait(self) -> None:
        import torch

        if self.job.device.type == "cuda":
            torch.cuda.synchronize(self.job.device)

    def _use(self, way: Way) -> None:
        if (way.last, way.compiled) != (self.way.last, self.way.compiled):
            put(self.job.denoiser, way, self.sizes)
        self.way, self.graphs = way, None
        self._forget()
        if way.graphs:
            self.graphs = Graphs(self._teach, self.weights)

    def _begin(self) -> None:
        if self.graphs:
            self.graphs.begin()
            return
        for weight in self.weights:
            weight.grad = None

    def _show(self, batch: Batch | None, share: torch.Tensor) -> Pair:
        import torch

        if not batch:  # fewer pictures than there are processes
            return torch.zeros(0, device=self.job.device), torch.zeros(0, device=self.job.device)
        found = [(self.graphs or self._teach)(part, share) for part in batch.split(self.parts)]
        errors, weights = zip(*found, strict=True)
        return torch.cat(errors), torch.cat(weights)

    def _teach(self, batch: Batch, share: torch.Tensor) -> Pair:
        """Add to the gradients what a batch teaches: its part of the mean over the step's pictures."""
        error, weight = self.errors(self.job, batch)
        loss = (error * weight).sum() / share
        loss.backward()  # type: ignore[no-untyped-call]
        return error.detach(), weight

    def _climb(self, pictures: int) -> None:
        """Take the next way that needs less memory; PrepError when there is none."""
        had = told(self.job.device)
        if self.job.spare():
            log.warning("The GPU's memory%s is too small: going on with the text encoders on the processor.", had)
        elif self.graphs:
            self._use(Way(f"{self.way.title}, but without them", self.way.last, self.way.compiled))
            log.warning("The GPU's memory%s is too small for CUDA graphs: going on without them.", had)
        elif not self.checkpointed and self.job.config.gradient_checkpointing == "auto" and self._checkpoint():
            log.warning("The GPU's memory%s is too small: going on with gradient checkpointing.", had)
        elif self.parts < pictures:
            self.parts *= 2
            log.warning(
                "The GPU's memory%s is too small: going on with each batch in %d parts, whose gradients are added.",
                had,
                self.parts,
            )
        else:
            raise PrepError(
                f"The GPU's memory{had} is too small for one picture at a time{self._with()}.",
                "Prepare smaller pictures, use a smaller base or optimizer (adamw8bit), or train on another GPU.",
            )
        self._forget()

    def _with(self) -> str:
        return ", even with gradient checkpointing" if self.checkpointed else ", without gradient checkpointing"

    def _checkpoint(self) -> bool:
        """Switch gradient checkpointing on; whether the denoiser has it."""
        if not hasattr(self.job.denoiser, "enable_gradient_checkpointing"):
            return False
        checkpoint_blocks(self.job.denoiser, self.sizes, self.job.config.dropout > 0)
        self.checkpointed = True
        return True

    def _forget(self) -> None:
        """Give memory back that nothing holds any more."""
        import torch

        for weight in self.weights:
            weight.grad = None
        if self.job.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()


@contextmanager
def studying(job: Job, errors: Errors, steps: int) -> Iterator[Study]:
    """A study of so many steps, after which the denoiser computes as before."""
    study = Study(job, errors, steps)
    try:
        yield study
    finally:
        study.close()
