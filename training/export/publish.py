"""The files of a finished run: what was trained, verified to load, and run.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.workspace import write_atomic
from training.checkpoints.run_folder import SUMMARY
from training.checkpoints.run_state import TrainingProgress
from training.export.artifacts import ArtifactFolder, replace_atomically, write_artifact
from training.export.metadata import provenance, stringify, training_metadata
from training.export.tensor_file import data_sha256
from training.methods.table import METHODS
from training.precision import dtype_of
from training.setup import TrainingRun

if TYPE_CHECKING:
    import torch

    from pipeline.manifest import Manifest

    Tensors = dict[str, torch.Tensor]

MAIN = ".safetensors"  # suffix of a run's main file


def publish(
    run: TrainingRun, progress: TrainingProgress, manifest: Manifest, folder: Path, extra: dict[str, Any]
) -> None:
    """Write what was trained, and run.json with `extra` in it; the files get their names once they are verified."""
    name = export_name(run)
    artifacts = run.method.finalize(dtype_of(run.plan.config.saving.save_precision))
    metadata = file_metadata(run, progress, manifest, artifacts)
    drafts = {suffix: folder / f"{name}.unverified{suffix}" for suffix in artifacts}
    for suffix, draft in drafts.items():
        write_artifact(draft, artifacts[suffix], metadata)
    run.method.verify(drafts)
    files = [f"{name}{suffix}" for suffix in drafts]
    summary = {
        "train": run.plan.config.values(),
        "too_long": run.too_long,
        "files": files,
        "metadata": metadata,
    } | extra
    write_atomic(folder / SUMMARY, json.dumps(summary, indent=2, ensure_ascii=False).encode())
    for suffix in sorted(drafts, key=lambda suffix: suffix == MAIN):  # the main file last: it means that all is done
        replace_atomically(drafts[suffix], folder / f"{name}{suffix}")


def export_name(run: TrainingRun) -> str:
    """The name of the files of a run, without a suffix."""
    config = run.plan.config
    return METHODS[config.method.method].file_name(config, run.plan.samples)


def file_metadata(
    run: TrainingRun,
    progress: TrainingProgress,
    manifest: Manifest,
    artifacts: Mapping[str, Tensors | ArtifactFolder],
) -> dict[str, str]:
    """The metadata of a run's files after so many steps and epochs."""
    main = artifacts.get(MAIN)  # a folder has no single hash
    sha256 = "" if main is None or isinstance(main, ArtifactFolder) else data_sha256(main)
    return (
        training_metadata(run.plan, progress)
        | stringify(run.method.metadata())
        | provenance(manifest, run.job.objective, sha256)
    )
