"""The Ray Data engine: actors on one machine, or on a cluster whose machines share the workspace's folder."""

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
    """Starts the stage once, then processes one batch per call.

    Ray keeps only the text of an exception, so PrepErrors are returned as values.
    """

    def __init__(self, stage: Stage, workspace: Workspace) -> None:
        self.error: PrepError | None = None
        try:
            self.work = stage.start(workspace)
        except PrepError as error:
            self.error = error

    def __call__(self, row: pa.Table) -> pa.Table:
        number = row.column("batch")[0].as_py()
        try:
            if self.error:
                raise self.error
            return _row(number, self.work(_records(row)))
        except PrepError as error:
            return _row(number, [], json.dumps([error.wrong, error.hint]))


def run(stage: Stage, batches: Iterable[list[Record]], workspace: Workspace, workers: int) -> Iterator[list[Record]]:
    """Run the stage on the batches in `workers` actors; each batch is one row, with its number.

    Every actor starts the stage once, so each holds a copy of its model, on a GPU of its own if it uses one. 0 workers
    means one actor per core, or for a model one actor or one per GPU. Batches return in any order and are sorted here.
    Raises PrepError when Ray is not installed or has too few GPUs.
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
    rows = [_row(number, batch) for number, batch in enumerate(batches)]
    if not rows:
        return
    default = (stage.threads and os.cpu_count()) or 1
    if not ray.is_initialized():
        cpus = max(workers or default, 2)
        ray.init(num_cpus=cpus, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    gpus = gpus_of(stage, int(ray.cluster_resources().get("GPU", 0)), workers)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")  # max_restarts has no other name yet
    done = ray.data.from_arrow(rows).map_batches(
        Actor,
        fn_constructor_args=(stage, workspace),
        batch_size=1,  # with GPUs Ray requires a number; a row is one batch of records
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ray.data.ActorPoolStrategy(size=min(workers or gpus or default, len(rows))),
        num_gpus=1 if gpus else None,
        num_cpus=0 if gpus else None,  # an actor reserves only its GPU
        max_restarts=0,  # a crashed actor ends the command; the same command continues from its partial results
    )
    yield from _in_order(done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))


def gpus_of(stage: Stage, available: int, workers: int) -> int:
    """The number of GPUs for the stage's actors, one each; 0 if it runs on CPUs.

    PrepError when there are more workers than GPUs, as Ray would wait for GPUs forever.
    """
    device = stage.runs_on()
    if device == "cpu" or (device == "auto" and not available):
        return 0
    if not available:
        raise PrepError("--device is cuda, but Ray finds no GPU.", "Use --device auto or --device cpu.")
    if workers > available:
        raise PrepError(
            f"{workers} workers need a GPU each, but Ray finds {available}.",
            f"Use --workers {available} or fewer, or --device cpu",
        )
    return available


def _row(number: int, records: list[Record], error: str = "") -> pa.Table:
    """A batch as one row, so that Ray cannot split it."""
    import pyarrow as pa

    table = to_arrow(records)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    packed = pa.array([sink.getvalue().to_pybytes()], pa.large_binary())
    return pa.table({"batch": pa.array([number]), "error": [error], "records": packed})


def _records(row: pa.Table) -> list[Record]:
    import pyarrow as pa

    with pa.ipc.open_stream(row.column("records")[0].as_buffer()) as stream:
        return from_arrow(stream.read_all())


def _in_order(blocks: Iterable[Any]) -> Iterator[list[Record]]:
    waiting: list[tuple[int, int, pa.Table]] = []
    wanted = 0
    rows = (block.slice(index, 1) for block in blocks for index in range(len(block)))
    for arrival, row in enumerate(rows):
        if error := row.column("error")[0].as_py():
            raise PrepError(*json.loads(error))
        heapq.heappush(waiting, (row.column("batch")[0].as_py(), arrival, row))
        while waiting and waiting[0][0] == wanted:
            yield _records(heapq.heappop(waiting)[2])
            wanted += 1
    if waiting:
        raise AssertionError(f"Ray lost batch {wanted}")
