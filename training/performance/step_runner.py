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
from training.performance.cuda_graphs import AFTER, StepGraphs
from training.performance.execution_modes import (
    EAGER,
    ExecutionMode,
    apply_mode,
    autotune,
    checkpoint_blocks,
    possible,
    prepare_attention,
    tuned,
)
from training.performance.frozen_convs import restore_frozen_convs, use_memory_saving_frozen_convs
from training.performance.memory_estimate import describe_memory

if TYPE_CHECKING:
    import torch

    from training.batch import Batch, TrainingJob

    Pair = tuple[torch.Tensor, torch.Tensor]
    Errors = Callable[[TrainingJob, Batch], Pair]

log = logging.getLogger(__name__)

_ROUNDS = 5  # of a measurement, of which the middle one counts


class StepRunner:
    """Teaches the weights batches. What it finds out about the device stays for the next step."""

    def __init__(self, job: TrainingJob, errors: Errors, steps: int) -> None:
        self.job, self.errors, self.steps = job, errors, steps
        self.weights = [weight for group in job.param_groups for weight in group.weights.values()]
        self.sizes = len({(sample.width, sample.height) for sample in job.samples})
        self.ways = possible(job.config.performance, job.device.type, job.trains_text_encoder)
        self.way: ExecutionMode = EAGER
        self.chosen = False
        self.graphs: StepGraphs | None = None
        self.checkpointed = False
        self.parts = 1  # of each batch, one after another
        if job.device.type == "cuda":
            prepare_attention(job.denoiser, job.config.performance)
            use_memory_saving_frozen_convs(job.denoiser)
        if job.config.performance.gradient_checkpointing == "on":
            self._checkpoint()

    def step(self, batches: Sequence[Batch | None], images: int, seed: int) -> list[Pair]:
        """Set the weights' gradients to what a step's batches teach; each batch's errors and weights.

        `images` are those of the step, of all processes; `seed` is of what draws inside the model.
        Without enough memory the step is done again in a way that takes less, and so are all that
        follow; PrepError when there is none left.
        """
        import torch

        with tuned(self.job.device.type):
            return self._step(batches, torch.full((), float(images), device=self.job.device), seed)

    def _step(self, batches: Sequence[Batch | None], share: torch.Tensor, seed: int) -> list[Pair]:
        import torch

        largest = max((batch for batch in batches if batch), key=len, default=None)
        if not self.chosen and largest:
            self.autotune(largest, share)
        while True:
            torch.manual_seed(seed)
            self._begin()
            try:
                return [self._run_batch(batch, share) for batch in batches]
            except torch.OutOfMemoryError:
                pass
            # Not above: there the failure still holds all that the step had computed.
            self._reduce_memory(len(largest or ()))

    def autotune(self, batch: Batch, share: torch.Tensor) -> None:
        """Take the fastest way for this batch; where there is only one, without measuring."""
        self.chosen = True
        if len(self.ways) == 1:
            self._use(self.ways[0])
            return
        way, seconds = autotune(self.ways, lambda way: self.measure(way, batch, share), self.steps)
        self._use(way)
        others = [f"{1000 * took:.1f} ms {other.title}" for other, took in seconds.items() if other is not way]
        log.warning("A batch takes %.1f ms %s; %s.", 1000 * seconds[way], way.title, ", ".join(others))

    def measure(self, way: ExecutionMode, batch: Batch, share: torch.Tensor) -> float:
        """Seconds for a batch, there and back; infinite when the way does not work here."""
        try:
            self._use(way)
            for _ in range(AFTER + 1):
                self._begin()
                self._run_batch(batch, share)
            spans = [self._timed(batch, share) for _ in range(_ROUNDS)]
        except (
            RuntimeError
        ) as error:  # out of memory, or a compiler that fails; where nothing else works, it comes again
            log.warning("A step %s does not work here: %s", way.title, str(error).strip().partition("\n")[0])
            return math.inf
        return math.inf if self.graphs and self.graphs.broken else statistics.median(spans)

    def close(self) -> None:
        """Leave the denoiser as it was."""
        self._use(EAGER)
        if self.job.device.type == "cuda":
            restore_frozen_convs(self.job.denoiser)
        if self.checkpointed:
            self.job.denoiser.disable_gradient_checkpointing()

    def _timed(self, batch: Batch, share: torch.Tensor) -> float:
        self._wait()
        began = time.perf_counter()
        self._begin()
        self._run_batch(batch, share)
        self._wait()
        return time.perf_counter() - began

    def _wait(self) -> None:
        import torch

        if self.job.device.type == "cuda":
            torch.cuda.synchronize(self.job.device)

    def _use(self, way: ExecutionMode) -> None:
        if (way.last, way.compiled) != (self.way.last, self.way.compiled):
            apply_mode(self.job.denoiser, way, self.sizes)
        self.way, self.graphs = way, None
        self._forget()
        if way.graphs:
            self.graphs = StepGraphs(self._forward_backward, self.weights)

    def _begin(self) -> None:
        if self.graphs:
            self.graphs.begin()
            return
        for weight in self.weights:
            weight.grad = None

    def _run_batch(self, batch: Batch | None, share: torch.Tensor) -> Pair:
        import torch

        if not batch:  # fewer images than there are processes
            return torch.zeros(0, device=self.job.device), torch.zeros(0, device=self.job.device)
        found = [(self.graphs or self._forward_backward)(part, share) for part in batch.split(self.parts)]
        errors, weights = zip(*found, strict=True)
        return torch.cat(errors), torch.cat(weights)

    def _forward_backward(self, batch: Batch, share: torch.Tensor) -> Pair:
        """Add to the gradients what a batch teaches: its part of the mean over the step's images."""
        error, weight = self.errors(self.job, batch)
        loss = (error * weight).sum() / share
        loss.backward()  # type: ignore[no-untyped-call]
        return error.detach(), weight

    def _reduce_memory(self, images: int) -> None:
        """Take the next way that needs less memory; PrepError when there is none."""
        had = describe_memory(self.job.device)
        if self.job.offload():
            log.warning("The GPU's memory%s is too small: going on with the text encoders on the processor.", had)
        elif self.graphs:
            self._use(ExecutionMode(f"{self.way.title}, but without them", self.way.last, self.way.compiled))
            log.warning("The GPU's memory%s is too small for CUDA graphs: going on without them.", had)
        elif (
            not self.checkpointed
            and self.job.config.performance.gradient_checkpointing == "auto"
            and self._checkpoint()
        ):
            log.warning("The GPU's memory%s is too small: going on with gradient checkpointing.", had)
        elif self.parts < images:
            self.parts *= 2
            log.warning(
                "The GPU's memory%s is too small: going on with each batch in %d parts, whose gradients are added.",
                had,
                self.parts,
            )
        else:
            raise PrepError(
                f"The GPU's memory{had} is too small for one image at a time{self._with()}.",
                "Prepare smaller images, use a smaller base or optimizer (adamw8bit), or train on another GPU.",
            )
        self._forget()

    def _with(self) -> str:
        return ", even with gradient checkpointing" if self.checkpointed else ", without gradient checkpointing"

    def _checkpoint(self) -> bool:
        """Switch gradient checkpointing on; whether the denoiser has it."""
        if not hasattr(self.job.denoiser, "enable_gradient_checkpointing"):
            return False
        checkpoint_blocks(self.job.denoiser, self.sizes, self.job.config.method.network_dropout > 0)
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
def step_runner(job: TrainingJob, errors: Errors, steps: int) -> Iterator[StepRunner]:
    """A study of so many steps, after which the denoiser computes as before."""
    study = StepRunner(job, errors, steps)
    try:
        yield study
    finally:
        study.close()
