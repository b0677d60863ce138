"""Computes the gradients of a step as fast as the device can, in the memory that it has."""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pipeline.adaptive_batches import release_memory
from pipeline.errors import PrepError, first_line
from training.performance.cuda_graphs import WARMUP, StepGraphs
from training.performance.execution_modes import (
    EAGER,
    ExecutionMode,
    apply_mode,
    candidate_modes,
    cudnn_benchmark,
    enable_gradient_checkpointing,
    fastest_mode,
    prepare_attention,
)
from training.performance.frozen_convs import restore_frozen_convs, use_memory_saving_frozen_convs
from training.performance.memory_estimate import describe_memory

if TYPE_CHECKING:
    import torch

    from training.batch import Batch, TrainingJob

    # The losses and weights of a batch's images, both (B,).
    Losses = tuple[torch.Tensor, torch.Tensor]
    # Adds the gradients of a batch to those of the weights, as the trainer's function of this name.
    ForwardBackward = Callable[[TrainingJob, Batch, torch.Tensor], Losses]
    Work = Callable[[Batch, torch.Tensor], Losses]  # the same for one job

log = logging.getLogger(__name__)

_ROUNDS = 5  # timed batches, of which the median counts


class StepRunner:
    """Runs forward and backward passes. What it finds out about the device's speed and memory is kept for all steps."""

    def __init__(self, job: TrainingJob, steps: int) -> None:
        self.job, self.steps = job, steps
        self.weights = [weight for group in job.param_groups for weight in group.weights.values()]
        self.sizes = len({(image.width, image.height) for image in job.samples})
        self.modes = candidate_modes(job.config.performance, job.device.type, job.trains_text_encoder)
        self.mode: ExecutionMode = EAGER
        self.tuned = False
        self.graphs: StepGraphs | None = None
        self.checkpointed = False
        self.parts = 1  # that each batch is split into
        if job.device.type == "cuda":
            prepare_attention(job.denoiser, job.config.performance)
            use_memory_saving_frozen_convs(job.denoiser)
        if job.config.performance.gradient_checkpointing == "on":
            self._checkpoint()

    def run(
        self, forward_backward: ForwardBackward, batches: Sequence[Batch | None], images: int, seed: int
    ) -> list[Losses]:
        """Set the weights' gradients to those of a step; the losses and weights of each batch's images.

        `images` counts those of the step in all processes; `seed` is of random operations inside the model. When
        memory runs out, the whole step is computed again in a mode that needs less, which all later steps keep;
        PrepError when there is none.
        """
        import torch

        work = partial(forward_backward, self.job)
        total = torch.full((), float(images), device=self.job.device)
        largest = max((batch for batch in batches if batch), key=len, default=None)
        with cudnn_benchmark(self.job.device.type):
            if not self.tuned and largest:
                self.autotune(work, largest, total)
            while True:
                torch.manual_seed(seed)
                self._zero_gradients()
                try:
                    return [self._run_batch(work, batch, total) for batch in batches]
                except torch.OutOfMemoryError:
                    pass
                # Not inside the except block: there the error still holds every tensor of the failed step.
                self._reduce_memory(len(largest or ()))

    def autotune(self, work: Work, batch: Batch, images: torch.Tensor) -> None:
        """Choose the mode that is fastest for this batch; where there is only one, without measuring."""
        self.tuned = True
        if len(self.modes) == 1:
            self._use(self.modes[0])
            return
        mode, seconds = fastest_mode(self.modes, lambda mode: self.measure(work, mode, batch, images), self.steps)
        self._use(mode)
        others = [f"{1000 * took:.1f} ms {other.title}" for other, took in seconds.items() if other is not mode]
        log.warning("A batch takes %.1f ms %s (%s).", 1000 * seconds[mode], mode.title, ", ".join(others))

    def measure(self, work: Work, mode: ExecutionMode, batch: Batch, images: torch.Tensor) -> float:
        """Seconds for the forward and backward pass of a batch; infinite when the mode does not work here."""
        try:
            self._use(mode)
            for _ in range(WARMUP + 1):
                self._zero_gradients()
                self._run_batch(work, batch, images)
            spans = [self._timed(work, batch, images) for _ in range(_ROUNDS)]
        except (
            RuntimeError
        ) as error:  # out of memory, or a failing compiler; with no other mode left, it is raised again
            log.warning("Training %s does not work here: %s.", mode.title, first_line(error))
            return math.inf
        return math.inf if self.graphs and self.graphs.failed else statistics.median(spans)

    def close(self) -> None:
        """Restore the denoiser as it was."""
        self._use(EAGER)
        if self.job.device.type == "cuda":
            restore_frozen_convs(self.job.denoiser)
        if self.checkpointed:
            self.job.denoiser.disable_gradient_checkpointing()

    def _timed(self, work: Work, batch: Batch, images: torch.Tensor) -> float:
        self._synchronize()
        start = time.perf_counter()
        self._zero_gradients()
        self._run_batch(work, batch, images)
        self._synchronize()
        return time.perf_counter() - start

    def _synchronize(self) -> None:
        import torch

        if self.job.device.type == "cuda":
            torch.cuda.synchronize(self.job.device)

    def _use(self, mode: ExecutionMode) -> None:
        if (mode.channels_last, mode.compiled) != (self.mode.channels_last, self.mode.compiled):
            apply_mode(self.job.denoiser, mode, self.job.family.compiled_blocks, self.sizes)
        self.mode, self.graphs = mode, None
        self._release()
        if mode.cuda_graphs:
            self.graphs = StepGraphs(self.weights)

    def _zero_gradients(self) -> None:
        if self.graphs:
            self.graphs.zero_gradients()
            return
        for weight in self.weights:
            weight.grad = None

    def _run_batch(self, work: Work, batch: Batch | None, images: torch.Tensor) -> Losses:
        import torch

        if not batch:  # fewer images than there are processes
            return torch.zeros(0, device=self.job.device), torch.zeros(0, device=self.job.device)
        run = partial(self.graphs.run, work) if self.graphs else work
        losses, weights = zip(*(run(part, images) for part in batch.split(self.parts)), strict=True)
        return torch.cat(losses), torch.cat(weights)

    def _reduce_memory(self, images: int) -> None:
        """Apply the next measure that saves memory; PrepError when none is left."""
        memory = describe_memory(self.job.device)
        if self.job.offload():
            log.warning("The GPU's memory%s is too small: the text encoders move to the CPU.", memory)
        elif self.graphs:
            self._use(ExecutionMode(self.mode.title, self.mode.channels_last, self.mode.compiled))
            log.warning("The GPU's memory%s is too small for CUDA graphs: they are switched off.", memory)
        elif (
            not self.checkpointed
            and self.job.config.performance.gradient_checkpointing == "auto"
            and self._checkpoint()
        ):
            log.warning("The GPU's memory%s is too small: gradient checkpointing is switched on.", memory)
        elif self.parts < images:
            self.parts *= 2
            log.warning(
                "The GPU's memory%s is too small: each batch is split into %d parts, whose gradients are added up.",
                memory,
                self.parts,
            )
        else:
            checkpointing = "even with" if self.checkpointed else "without"
            raise PrepError(
                f"The GPU's memory{memory} is too small for a batch of one image, {checkpointing} "
                "gradient checkpointing.",
                "Prepare smaller images, use a smaller base model or --optimizer adamw8bit, or train on another GPU.",
            )
        self._release()

    def _checkpoint(self) -> bool:
        """Switch gradient checkpointing on; False when the denoiser does not support it."""
        if not hasattr(self.job.denoiser, "enable_gradient_checkpointing"):
            return False
        blocks, dropout = self.job.family.compiled_blocks, self.job.config.method.network_dropout > 0
        enable_gradient_checkpointing(self.job.denoiser, blocks, self.sizes, dropout)
        self.checkpointed = True
        return True

    def _release(self) -> None:
        """Free the gradients, and the memory that nothing uses any more."""
        for weight in self.weights:
            weight.grad = None
        if self.job.device.type == "cuda":
            release_memory()
