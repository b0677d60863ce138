"""What a run exports: a file of tensors or a folder of such files, written under a temporary name first."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.workspace import write_atomic
from training.export.tensor_file import write_tensors

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class ArtifactFolder:
    """A folder of files, by their paths in it."""

    tensors: dict[str, Callable[[], Tensors]]  # called when its file is written, so that one set is in memory at a time
    others: dict[str, bytes] = field(default_factory=dict)


def write_artifact(path: Path, artifact: Tensors | ArtifactFolder, metadata: dict[str, str]) -> None:
    """Write a file or a folder, with `metadata` in every file of tensors."""
    if not isinstance(artifact, ArtifactFolder):
        write_tensors(path, artifact, metadata)
        return
    delete(path)
    for name, data in artifact.others.items():
        write_atomic(path / name, data)
    for name, tensors in artifact.tensors.items():
        write_tensors(path / name, tensors(), metadata | {"format": "pt"})  # transformers refuses a file without it


def replace_atomically(draft: Path, target: Path) -> None:
    """Rename a draft to its target. A file or folder of that name is deleted only after the draft has replaced it."""
    if not draft.is_dir():
        draft.replace(target)
        return
    previous = target.with_name(f".{target.name}.previous")
    delete(previous)
    if target.exists():
        target.rename(previous)
    draft.rename(target)
    delete(previous)


def delete(path: Path) -> None:
    """Delete a file or folder that prep wrote, if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
