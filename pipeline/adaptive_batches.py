"""Batches that shrink when memory runs out: the same results, computed in smaller parts."""

from __future__ import annotations

import gc
import logging
import re
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from pipeline.errors import PrepError

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger("prep")

# What onnxruntime, CUDA, cuDNN, cuBLAS, torch and numpy report when an allocation fails.
_OUT_OF_MEMORY = re.compile(
    r"out of memory|failed to allocate|alloc_failed|cudaErrorMemoryAllocation|can.t allocate|unable to allocate", re.I
)


class AdaptiveBatcher:
    """Runs a model on many items, `size` at a time; after memory ran out, on half as many, also in later calls.

    `task` is the subject of messages, such as "Encoding images"; `offload` moves idle models to the CPU and tells
    whether there were any; `faults` are error classes, besides RuntimeError and MemoryError, that may mean that memory
    ran out.
    """

    def __init__(
        self,
        size: int,
        task: str,
        offload: Callable[[], bool] = lambda: False,
        faults: tuple[type[Exception], ...] = (),
    ) -> None:
        self.size, self.task, self.offload = size, task, offload
        self.faults: tuple[type[Exception], ...] = (RuntimeError, MemoryError, *faults)  # torch's is a RuntimeError

    def run(self, infer: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R]:
        """One result of `infer` for each item. PrepError when memory runs out with a single item."""
        results: list[R] = []
        while len(results) < len(items):
            part = items[len(results) : len(results) + self.size]
            try:
                results += [result for _, result in zip(part, infer(part), strict=True)]
                continue
            except self.faults as error:
                if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(str(error)):
                    raise
            # Not inside the except block: there the error still holds every tensor of the failed call.
            self._reduce(len(part))
        return results

    def _reduce(self, count: int) -> None:
        release_memory()
        if self.offload():
            log.warning("%s ran out of memory: the text encoders move to the CPU.", self.task)
        elif count > 1:
            self.size = -(-count // 2)
            log.warning(
                "%s ran out of memory with a batch of %d; the batch size is now %d.", self.task, count, self.size
            )
        else:
            raise PrepError(
                f"{self.task} ran out of memory with a single image.",
                "Close other programs that use the memory, use a smaller model or smaller images, or add: --device cpu",
            )


def release_memory() -> None:
    """Return GPU memory that nothing uses any more to the driver; nothing where torch is not loaded."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
