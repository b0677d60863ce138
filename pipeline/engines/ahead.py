"""Work in two steps: what threads may fetch ahead of time, and what goes one batch after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pipeline.record import Record


@dataclass(frozen=True, slots=True)
class PrefetchingWork:
    """A stage's work whose slow reading needs no order, such as a tagger's.

    `fetch` is a function of one record and `finish` of one batch and what was fetched for it, so
    the results do not depend on how far the one runs ahead of the other.
    """

    load: Callable[[Record], Any]
    infer: Callable[[list[Record], Iterable[Any]], list[Record]]
    readers: int  # threads that fetch

    def __call__(self, records: list[Record]) -> list[Record]:
        """One batch: its records are still fetched while its first ones are worked on."""
        return next(self.run([records]))

    def run(self, batches: Iterable[list[Record]]) -> Iterator[list[Record]]:
        """Batch after batch; while one is worked on, the next is fetched. At most two are in memory."""
        pool = ThreadPoolExecutor(self.readers, thread_name_prefix="fetch")
        waiting: deque[tuple[list[Record], Iterator[Any]]] = deque()
        try:
            for batch in batches:
                waiting.append((batch, pool.map(self.load, batch)))
                if len(waiting) > 1:
                    yield self.infer(*waiting.popleft())
            while waiting:
                yield self.infer(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)  # an error or Ctrl-C: let what runs end, start nothing more
