"""What a finished run leaves in its folder: the adapter, proven to load, what it saw, and a summary."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.workspace import write_atomic
from training.adapters import prove
from training.assembly import Run, settled
from training.checkpoint import published_name
from training.export import adapter_keys, data_sha256, write_tensors
from training.loop import Row
from training.metadata import describe, provenance

if TYPE_CHECKING:
    import torch

    from pipeline.manifest import Manifest


def publish(run: Run, rows: list[Row], manifest: Manifest, file: Path) -> None:
    """Write adapter, metrics and summary; the adapter gets its name when it is proven to load."""
    config, family, checkpoint = run.plan.config, run.plan.family, run.plan.checkpoint
    trained = settled(run)
    tensors: dict[str, torch.Tensor] = {}
    for part, weights in trained.weights.items():
        named = {published_name(part, name): value for name, value in weights.items()}
        tensors |= adapter_keys(named, family, part, config.alpha or config.rank)
    about = describe(config, run.plan.samples, rows, (family, checkpoint))
    about |= provenance(manifest, run.job.objective, data_sha256(tensors))
    draft = file.with_name(f"{config.output}.unproven.safetensors")
    write_tensors(draft, tensors, about)
    prove(draft, family, checkpoint, trained.answers, trained.dtype)
    write_atomic(file.with_name("metrics.parquet"), _metrics(rows))
    summary = {"train": dataclasses.asdict(config), "too_long": run.too_long, "metadata": about}
    write_atomic(file.with_name("run.json"), json.dumps(summary, indent=2, ensure_ascii=False).encode())
    draft.replace(file)


def _metrics(rows: list[Row]) -> bytes:
    """The rows as a Parquet file: what the run saw and how it went."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([dataclasses.asdict(row) for row in rows], schema=_schema()), sink)
    return bytes(sink.getvalue())


def _schema() -> Any:
    import pyarrow as pa

    kinds = {"int": pa.int32(), "float": pa.float64(), "float | None": pa.float64(), "list[str]": pa.list_(pa.string())}
    return pa.schema([(field.name, kinds[str(field.type)]) for field in dataclasses.fields(Row)])
