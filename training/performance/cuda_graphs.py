"""CUDA graphs of forward and backward passes: one for each batch shape that comes often, replayed as a whole."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import first_line

if TYPE_CHECKING:
    import torch

    from training.batch import Batch

    Losses = tuple[torch.Tensor, torch.Tensor]
    Work = Callable[[Batch, torch.Tensor], Losses]  # a batch and the step's number of images to losses and weights
    Shape = tuple[tuple[str, tuple[int, ...], torch.dtype], ...]
    Capture = Callable[[Callable[[], Losses]], tuple[Callable[[], None], Losses]]

log = logging.getLogger(__name__)

MAX_GRAPHS = 8  # each holds the memory of a step, though they share what they can
WARMUP = 3  # times that a shape runs without a graph first: libraries initialize, blocks are compiled


@dataclass(frozen=True, slots=True)
class CapturedStep:
    """A captured graph: the tensors that it reads, the function that runs it, and the tensors that it writes."""

    batch: Batch
    images: torch.Tensor
    replay: Callable[[], None]
    losses: Losses


class StepGraphs:
    """Runs batches by replaying CUDA graphs; shapes that are rare, or cannot be captured, run without one.

    A graph reads and writes fixed addresses (https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/): from
    `zero_gradients` to the end of a step the gradients of the weights lie there.
    """

    def __init__(self, weights: list[torch.Tensor], capture: Capture | None = None, warmup: int = WARMUP) -> None:
        self.weights, self.warmup = weights, warmup
        self.capture = capture or GraphPool().capture
        self.counts: Counter[Shape] = Counter()
        self.captured: OrderedDict[Shape, CapturedStep] = OrderedDict()  # the least recently used one first
        self.gradients: list[torch.Tensor] = []
        self.failed = False

    def zero_gradients(self) -> None:
        """Give the weights gradients of zero, at the addresses that the graphs add to."""
        import torch

        if not self.gradients:
            self.gradients = [torch.zeros_like(weight) for weight in self.weights]
        torch._foreach_zero_(self.gradients)
        for weight, gradient in zip(self.weights, self.gradients, strict=True):
            weight.grad = gradient

    def run(self, work: Work, batch: Batch, images: torch.Tensor) -> Losses:
        """What `work` returns and adds to the gradients."""
        import torch

        tensors = batch.tensors()
        shape: Shape = tuple((name, tuple(value.shape), value.dtype) for name, value in tensors.items())
        step = self.captured.get(shape)
        if step is None:
            self.counts[shape] += 1
            if self.failed or self.counts[shape] <= self.warmup:
                return work(batch, images)
            step = self._capture(work, batch, images)
            if step is None:
                return work(batch, images)
            self.captured[shape] = step
            if len(self.captured) > MAX_GRAPHS:
                oldest, _ = self.captured.popitem(last=False)
                self.counts[oldest] = 0  # it is captured again only when it comes often again
        self.captured.move_to_end(shape)
        torch._foreach_copy_([*step.batch.tensors().values(), step.images], [*tensors.values(), images])
        step.replay()
        losses, weights = step.losses
        return losses.clone(), weights.clone()  # the next replay overwrites them

    def _capture(self, work: Work, batch: Batch, images: torch.Tensor) -> CapturedStep | None:
        """The graph of this shape; None, now and later, when this machine or model does not allow any."""
        own = batch.with_tensors({name: value.clone() for name, value in batch.tensors().items()})
        own_images = images.clone()
        try:
            replay, losses = self.capture(lambda: work(own, own_images))
        except RuntimeError as error:  # torch's own, including out of memory
            self.failed = True
            log.warning("CUDA graphs do not work here: %s.", first_line(error))
            return None
        return CapturedStep(own, own_images, replay, losses)


class GraphPool:
    """Memory that all graphs share, as they never run at the same time."""

    def __init__(self) -> None:
        self.handle: Any = None

    def capture(self, work: Callable[[], Losses]) -> tuple[Callable[[], None], Losses]:
        """Record the kernels that `work` launches, without running them; RuntimeError when that is not possible."""
        import torch

        self.handle = self.handle or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # Meanwhile another thread may copy the next batch to the device, which must not be recorded.
        with torch.cuda.graph(graph, pool=self.handle, capture_error_mode="thread_local"):
            losses = work()
        return graph.replay, losses
