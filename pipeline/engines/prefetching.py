"""A stage's work in two steps: threads load the next batch while the current one is processed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pipeline.record import Record


@dataclass(frozen=True, slots=True)
class PrefetchingWork:
    """Work that loads each record in threads and then infers on the batch, as taggers do.

    `load` is a function of one record, and `infer` of one batch and what was loaded for it, so the
    results do not depend on how far loading is ahead.
    """

    load: Callable[[Record], Any]
    infer: Callable[[list[Record], Iterable[Any]], list[Record]]
    readers: int  # threads that load

    def __call__(self, records: list[Record]) -> list[Record]:
        """The result of one batch."""
        return next(self.run([records]))

    def run(self, batches: Iterable[list[Record]]) -> Iterator[list[Record]]:
        """The results of the batches; while one is processed, the next is loaded. At most two are in memory."""
        pool = ThreadPoolExecutor(self.readers, thread_name_prefix="load")
        waiting: deque[tuple[list[Record], Iterator[Any]]] = deque()
        try:
            for batch in batches:
                waiting.append((batch, pool.map(self.load, batch)))
                if len(waiting) > 1:
                    yield self.infer(*waiting.popleft())
            while waiting:
                yield self.infer(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C, start nothing more
