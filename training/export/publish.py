"""What a finished run leaves in its folder: the adapter, proven to load, what it saw, and a summary."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.workspace import write_atomic
from training.export.artifacts import ArtifactFolder, replace_atomically, write_artifact
from training.export.metadata import provenance, stringify, training_metadata
from training.export.tensor_file import data_sha256
from training.setup import TrainingRun

if TYPE_CHECKING:
    import torch

    from pipeline.manifest import Manifest

    Tensors = dict[str, torch.Tensor]

MAIN = ".safetensors"  # the end of the name of a run's main file


def publish(run: TrainingRun, done: tuple[int, int], manifest: Manifest, file: Path, extra: dict[str, Any]) -> None:
    """Write what was trained and a summary; the files get their names when they are proven to load.

    `done` are the steps done, and the epochs begun; `found` is what else the summary tells.
    """
    files = run.method.finalize(run.plan.config.save_dtype)
    about = file_metadata(run, done, manifest, files)
    drafts = {end: file.with_name(f"{run.plan.config.output}.unverified{end}") for end in files}
    for end, draft in drafts.items():
        write_artifact(draft, files[end], about)
    run.method.verify(drafts)
    summary = {"train": dataclasses.asdict(run.plan.config), "too_long": run.too_long, "metadata": about} | extra
    write_atomic(file.with_name("run.json"), json.dumps(summary, indent=2, ensure_ascii=False).encode())
    for end in sorted(drafts, key=lambda end: end == MAIN):  # the main file last: it says that all is done
        replace_atomically(drafts[end], file.with_name(f"{run.plan.config.output}{end}"))


def file_metadata(
    run: TrainingRun, done: tuple[int, int], manifest: Manifest, files: Mapping[str, Tensors | ArtifactFolder]
) -> dict[str, str]:
    """What a run's files say about themselves after so many steps and epochs."""
    plan = run.plan
    main = files.get(MAIN)  # a folder has no single hash
    sha256 = "" if main is None or isinstance(main, ArtifactFolder) else data_sha256(main)
    about = training_metadata(plan.config, plan.samples, done, (plan.family, plan.checkpoint)) | stringify(
        run.method.metadata()
    )
    return about | provenance(manifest, run.job.objective, sha256)
