"""CUDA graphs of steps: one for each shape of batch that comes often, replayed instead of launched anew."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from training.batch import Batch

    Pair = tuple[torch.Tensor, torch.Tensor]
    Teach = Callable[[Batch, torch.Tensor], Pair]  # a batch and the step's images to errors and weights
    Shape = tuple[tuple[str, tuple[int, ...], torch.dtype], ...]
    Capture = Callable[[Callable[[], Pair]], tuple[Callable[[], None], Pair]]

log = logging.getLogger(__name__)

MOST = 8  # graphs at once: each holds a step's memory, though they share what they can
AFTER = 3  # times that a shape is computed as usual first: libraries set themselves up, blocks are compiled


@dataclass(frozen=True, slots=True)
class CapturedStep:
    """A step as the device keeps it: what it reads, how it is run, and what it leaves."""

    batch: Batch
    images: torch.Tensor
    replay: Callable[[], None]
    found: Pair


class StepGraphs:
    """Teaches batches by replaying graphs; shapes that come seldom, or cannot be captured, as usual.

    Graphs write gradients to fixed places: between `begin` and the end of a step these are the weights'.
    """

    def __init__(
        self, teach: Teach, weights: list[torch.Tensor], capture: Capture | None = None, after: int = AFTER
    ) -> None:
        self.teach, self.weights, self.after = teach, weights, after
        self.capture = capture or GraphPool().capture
        self.seen: Counter[Shape] = Counter()
        self.ready: OrderedDict[Shape, CapturedStep] = OrderedDict()
        self.places: list[torch.Tensor] = []
        self.broken = False

    def begin(self) -> None:
        """Give the weights gradients of zero, at the places that graphs add to."""
        import torch

        if not self.places:
            self.places = [torch.zeros_like(weight) for weight in self.weights]
        torch._foreach_zero_(self.places)
        for weight, place in zip(self.weights, self.places, strict=True):
            weight.grad = place

    def __call__(self, batch: Batch, images: torch.Tensor) -> Pair:
        """What `teach` would find and add to the gradients."""
        import torch

        tensors = batch.tensors()
        shape: Shape = tuple((name, tuple(value.shape), value.dtype) for name, value in tensors.items())
        found = self.ready.get(shape)
        if found is None:
            self.seen[shape] += 1
            if self.broken or self.seen[shape] <= self.after:
                return self.teach(batch, images)
            found = self._capture(batch, images)
            if found is None:
                return self.teach(batch, images)
            self.ready[shape] = found
            if len(self.ready) > MOST:
                old, _ = self.ready.popitem(last=False)
                self.seen[old] = 0  # it has to come often again
        self.ready.move_to_end(shape)
        torch._foreach_copy_([*found.batch.tensors().values(), found.images], [*tensors.values(), images])
        found.replay()
        error, weight = found.found
        return error.clone(), weight.clone()  # the next replay overwrites them

    def _capture(self, batch: Batch, images: torch.Tensor) -> CapturedStep | None:
        """The graph of this shape; None, from then on, when this machine or model allows none."""
        own = batch.with_tensors({name: value.clone() for name, value in batch.tensors().items()})
        share = images.clone()
        try:
            replay, found = self.capture(lambda: self.teach(own, share))
        except RuntimeError as error:  # torch's own, of which running out of memory is one
            self.broken = True
            log.warning("Steps are not replayed as CUDA graphs: %s", _line(error))
            return None
        return CapturedStep(own, share, replay, found)


class GraphPool:
    """Memory that all graphs share: they never run at the same time."""

    def __init__(self) -> None:
        self.handle: Any = None

    def capture(self, work: Callable[[], Pair]) -> tuple[Callable[[], None], Pair]:
        """Record what `work` does on the device, without doing it; RuntimeError when it cannot be recorded."""
        import torch

        self.handle = self.handle or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # Another thread may be sending the next batch meanwhile: what it does is its own.
        with torch.cuda.graph(graph, pool=self.handle, capture_error_mode="thread_local"):
            found = work()
        return graph.replay, found


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
