"""What a finished run leaves in its folder: the adapter, proven to load, what it saw, and a summary."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.workspace import write_atomic
from training.export.artifacts import Folder, put, write_product
from training.export.metadata import describe, provenance, told
from training.export.tensor_file import data_sha256
from training.setup import Run

if TYPE_CHECKING:
    import torch

    from pipeline.manifest import Manifest

    Tensors = dict[str, torch.Tensor]

MAIN = ".safetensors"  # the end of the name of a run's main file


def publish(run: Run, done: tuple[int, int], manifest: Manifest, file: Path, found: dict[str, Any]) -> None:
    """Write what was trained and a summary; the files get their names when they are proven to load.

    `done` are the steps done, and the epochs begun; `found` is what else the summary tells.
    """
    files = run.trainee.settle(run.plan.config.number_type)
    about = label(run, done, manifest, files)
    drafts = {end: file.with_name(f"{run.plan.config.output}.unproven{end}") for end in files}
    for end, draft in drafts.items():
        write_product(draft, files[end], about)
    run.trainee.prove(drafts)
    summary = {"train": dataclasses.asdict(run.plan.config), "too_long": run.too_long, "metadata": about} | found
    write_atomic(file.with_name("run.json"), json.dumps(summary, indent=2, ensure_ascii=False).encode())
    for end in sorted(drafts, key=lambda end: end == MAIN):  # the main file last: it says that all is done
        put(drafts[end], file.with_name(f"{run.plan.config.output}{end}"))


def label(run: Run, done: tuple[int, int], manifest: Manifest, files: Mapping[str, Tensors | Folder]) -> dict[str, str]:
    """What a run's files say about themselves after so many steps and epochs."""
    plan = run.plan
    main = files.get(MAIN)  # a folder has no single hash
    sha256 = "" if main is None or isinstance(main, Folder) else data_sha256(main)
    about = describe(plan.config, plan.samples, done, (plan.family, plan.checkpoint)) | told(run.trainee.about())
    return about | provenance(manifest, run.job.objective, sha256)
