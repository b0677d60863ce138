"""Memory that runs out: half as many images at once, said aloud, and on with the same results."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from pipeline.errors import PrepError

T = TypeVar("T")
R = TypeVar("R")

# What onnxruntime, CUDA, cuDNN, cuBLAS, torch and numpy say when an allocation fails.
_SIGNS = re.compile(
    r"out of memory|failed to allocate|alloc_failed|cudaErrorMemoryAllocation|can.t allocate|unable to allocate", re.I
)


class AdaptiveBatches:
    """How many images a model takes at once: what was asked for, less after memory ran out."""

    def __init__(self, size: int, by: str, faults: tuple[type[Exception], ...] = ()) -> None:
        self.size = size
        self.by = by
        self.faults: tuple[type[Exception], ...] = (RuntimeError, MemoryError, *faults)  # torch's own is a RuntimeError

    def run(self, infer: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R]:
        """One result of `infer` for each item, piece after piece; halves the pieces when memory runs out.

        PrepError when it runs out with a single image; other faults pass through.
        """
        done: list[R] = []
        while len(done) < len(items):
            piece = items[len(done) : len(done) + self.size]
            try:
                results = infer(piece)
            except self.faults as error:
                self._halve(error, len(piece))
                continue
            done += [result for _, result in zip(piece, results, strict=True)]
        return done

    def _halve(self, error: Exception, count: int) -> None:
        if not isinstance(error, MemoryError) and not _SIGNS.search(str(error)):
            raise error
        if count == 1:
            raise PrepError(
                f"{self.by} ran out of memory with a single image.",
                "Close what else uses the memory, take a smaller model, or leave the GPU: --device cpu",
            ) from None
        self.size = count // 2
        log = logging.getLogger("prep")
        log.warning("%s ran out of memory with %d images at once; it goes on with %d.", self.by, count, self.size)
