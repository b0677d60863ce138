"""Ray Data: the same stage in actors, on the cores of one machine or of a cluster that shares the workspace."""

from __future__ import annotations

import heapq
import logging
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from pipeline.manifest import from_arrow, to_arrow
from pipeline.record import Record
from pipeline.stage import Stage
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa


class Actor:
    """Starts the stage once, then works on one Arrow block a call."""

    def __init__(self, stage: Stage, workspace: Workspace) -> None:
        self.work = stage.start(workspace)

    def __call__(self, block: pa.Table) -> pa.Table:
        number = block.column("batch")[0].as_py()
        records = self.work(from_arrow(block.drop_columns("batch")))
        return _block(number, records)


def run(stage: Stage, batches: Iterable[list[Record]], workspace: Workspace, workers: int) -> Iterator[list[Record]]:
    """Work on the batches in `workers` actors; each batch is one block, its number travels with it.

    Blocks come back in any order and are put in order here. Raises PrepError when ray is not installed.
    """
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # prep sends nothing to anybody
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # prep tells what the user can mend
        import ray
        import ray.data
    except ImportError:
        raise PrepError(
            "The ray engine needs Ray, which is not installed.", "pip install 'prep-diffusion[ray]'"
        ) from None
    blocks = [_block(number, batch) for number, batch in enumerate(batches)]
    if not blocks:
        return
    workers = workers if stage.threads else 1
    if not ray.is_initialized():
        ray.init(num_cpus=max(workers, 2), log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    done = ray.data.from_arrow(blocks).map_batches(
        Actor,
        fn_constructor_args=(stage, workspace),
        batch_size=None,  # one block, one batch
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(blocks))),
        num_gpus=stage.gpus or None,
    )
    try:
        yield from _in_order(done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))
    except Exception as error:  # noqa: BLE001  # Ray wraps what an actor raised; the user's error is somewhere inside
        raise (_prep_error(error) or error) from None


def _block(number: int, records: list[Record]) -> pa.Table:
    import pyarrow as pa

    return to_arrow(records).append_column("batch", pa.array([number] * len(records), pa.int64()))


def _in_order(blocks: Iterable[Any]) -> Iterator[list[Record]]:
    waiting: list[tuple[int, int, pa.Table]] = []
    wanted = 0
    for arrival, block in enumerate(blocks):
        heapq.heappush(waiting, (block.column("batch")[0].as_py(), arrival, block))
        while waiting and waiting[0][0] == wanted:
            yield from_arrow(heapq.heappop(waiting)[2].drop_columns("batch"))
            wanted += 1
    if waiting:
        raise AssertionError(f"Ray lost batch {wanted}")


def _prep_error(error: BaseException | None) -> PrepError | None:
    while error is not None:
        if isinstance(error, PrepError):
            return error
        error = getattr(error, "cause", None) or error.__cause__
    return None
