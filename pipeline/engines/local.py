"""The local engine: threads of this process, which suffice because image libraries release the GIL."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from pipeline.engines.prefetching import PrefetchingWork
from pipeline.record import Record
from pipeline.stage import Stage
from pipeline.workspace import Workspace


def run(stage: Stage, batches: Iterable[list[Record]], workspace: Workspace, workers: int) -> Iterator[list[Record]]:
    """Run the stage on the batches with `workers` cores, or one batch after another if it does not allow threads.

    There is one thread more than workers, as threads wait for the interpreter between native calls
    (benchmarks/crop.py: 7 to 9% faster). At most two batches per worker are in progress, so memory
    does not grow with the number of batches.
    """
    workers = workers or os.cpu_count() or 1
    work = stage.start(workspace)
    if not stage.threads or workers == 1:
        yield from work.run(batches) if isinstance(work, PrefetchingWork) else map(work, batches)
        return
    with ThreadPoolExecutor(workers + 1, thread_name_prefix=stage.name) as pool:
        pending: deque[Future[list[Record]]] = deque()
        try:
            for batch in batches:
                pending.append(pool.submit(work, batch))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:  # after an error or Ctrl-C, start nothing more
                future.cancel()
