"""Ray Data: the same stage in actors, on the cores of one machine or of a cluster that shares the workspace."""

from __future__ import annotations

import heapq
import json
import logging
import os
import warnings
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
    """Starts the stage once, then works on one Arrow block a call.

    Ray keeps only the text of what an actor raises, so the user's errors travel as values.
    """

    def __init__(self, stage: Stage, workspace: Workspace) -> None:
        self.work = stage.start(workspace)

    def __call__(self, block: pa.Table) -> pa.Table:
        number = block.column("batch")[0].as_py()
        records = from_arrow(block.drop_columns(["batch", "error"]))
        try:
            return _block(number, self.work(records))
        except PrepError as error:
            return _block(number, records, json.dumps([error.wrong, error.mend]))


def run(stage: Stage, batches: Iterable[list[Record]], workspace: Workspace, workers: int) -> Iterator[list[Record]]:
    """Work on the batches in `workers` actors; each batch is one block, its number travels with it.

    Every actor starts the stage once: of a model each holds a copy, so unless more are asked for there is one.
    Blocks come back in any order and are put in order here. Raises PrepError when ray is not installed.
    """
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # prep sends nothing to anybody
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray
        import ray.data
    except ImportError:
        raise PrepError(
            "The ray engine needs Ray, which is not installed.", "pip install 'prep-diffusion[ray]'"
        ) from None
    blocks = [_block(number, batch) for number, batch in enumerate(batches)]
    if not blocks:
        return
    workers = workers or (stage.threads and os.cpu_count()) or 1
    if not ray.is_initialized():
        ray.init(num_cpus=max(workers, 2), log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")  # max_restarts has no other name yet
    done = ray.data.from_arrow(blocks).map_batches(
        Actor,
        fn_constructor_args=(stage, workspace),
        batch_size=None,  # one block, one batch
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(blocks))),
        num_gpus=stage.gpus or None,
        max_restarts=0,  # an actor that dies ends the command; the same command goes on from its parts
    )
    yield from _in_order(done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))


def _block(number: int, records: list[Record], error: str = "") -> pa.Table:
    import pyarrow as pa

    table = to_arrow(records).append_column("batch", pa.array([number] * len(records), pa.int64()))
    return table.append_column("error", pa.array([error] * len(records), pa.string()))


def _in_order(blocks: Iterable[Any]) -> Iterator[list[Record]]:
    waiting: list[tuple[int, int, pa.Table]] = []
    wanted = 0
    for arrival, block in enumerate(blocks):
        if error := block.column("error")[0].as_py():
            raise PrepError(*json.loads(error))
        heapq.heappush(waiting, (block.column("batch")[0].as_py(), arrival, block))
        while waiting and waiting[0][0] == wanted:
            yield from_arrow(heapq.heappop(waiting)[2].drop_columns(["batch", "error"]))
            wanted += 1
    if waiting:
        raise AssertionError(f"Ray lost batch {wanted}")
