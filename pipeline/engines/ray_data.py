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
    """Starts the stage once, then works on one batch a call.

    Ray keeps only the text of what an actor raises, so the user's errors travel as values.
    """

    def __init__(self, stage: Stage, workspace: Workspace) -> None:
        self.fault: PrepError | None = None
        try:
            self.work = stage.start(workspace)
        except PrepError as error:
            self.fault = error

    def __call__(self, row: pa.Table) -> pa.Table:
        number = row.column("batch")[0].as_py()
        try:
            if self.fault:
                raise self.fault
            return _row(number, self.work(_records(row)))
        except PrepError as error:
            return _row(number, [], json.dumps([error.wrong, error.hint]))


def run(stage: Stage, batches: Iterable[list[Record]], workspace: Workspace, workers: int) -> Iterator[list[Record]]:
    """Work on the batches in `workers` actors; each batch is one row, its number travels with it.

    Every actor starts the stage once: of a model each holds a copy, with a GPU of its own where it runs on one.
    Unless more are asked for there is one, or one a GPU. Batches come back in any order and are put in order here.
    Raises PrepError when ray is not installed, or has too few GPUs.
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
    usual = (stage.threads and os.cpu_count()) or 1
    if not ray.is_initialized():
        cpus = max(workers or usual, 2)
        ray.init(num_cpus=cpus, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    gpus = gpus_of(stage, int(ray.cluster_resources().get("GPU", 0)), workers)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")  # max_restarts has no other name yet
    done = ray.data.from_arrow(rows).map_batches(
        Actor,
        fn_constructor_args=(stage, workspace),
        batch_size=1,  # for GPUs Ray wants a number, and one of records would cut the batches anew
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ray.data.ActorPoolStrategy(size=min(workers or gpus or usual, len(rows))),
        num_gpus=1 if gpus else None,
        num_cpus=0 if gpus else None,  # a copy waits for a GPU alone
        max_restarts=0,  # an actor that dies ends the command; the same command goes on from its parts
    )
    yield from _in_order(done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))


def gpus_of(stage: Stage, there: int, workers: int) -> int:
    """How many of the cluster's GPUs the stage's copies may have, one each; 0: it runs on CPUs.

    PrepError when more copies are asked for than there are GPUs: Ray would wait for them without end.
    """
    device = stage.runs_on()
    if device == "cpu" or (device == "auto" and not there):
        return 0
    if not there:
        raise PrepError("--device cuda was asked for, but Ray knows of no GPU.", "Use --device auto or cpu.")
    if workers > there:
        raise PrepError(
            f"{workers} workers were asked for, each with a GPU of its own, but Ray has {there}.",
            f"Give --workers {there} or less, or run on CPUs: --device cpu",
        )
    return there


def _row(number: int, records: list[Record], error: str = "") -> pa.Table:
    """A batch as one row: whatever cuts or joins rows leaves it whole."""
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
    rows = (block.slice(place, 1) for block in blocks for place in range(len(block)))
    for arrival, row in enumerate(rows):
        if error := row.column("error")[0].as_py():
            raise PrepError(*json.loads(error))
        heapq.heappush(waiting, (row.column("batch")[0].as_py(), arrival, row))
        while waiting and waiting[0][0] == wanted:
            yield _records(heapq.heappop(waiting)[2])
            wanted += 1
    if waiting:
        raise AssertionError(f"Ray lost batch {wanted}")
