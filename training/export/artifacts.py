"""What a run leaves: a file of tensors, or a folder of such files, written aside and then put in its place."""

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
    """Files that lie together, by their paths below the folder."""

    tensors: dict[str, Callable[[], Tensors]]  # each is asked for when it is written, so that one is held at a time
    others: dict[str, bytes] = field(default_factory=dict)


def write_artifact(path: Path, product: Tensors | ArtifactFolder, about: dict[str, str]) -> None:
    """Write a file or a folder with what all files of tensors say about themselves."""
    if not isinstance(product, ArtifactFolder):
        write_tensors(path, product, about)
        return
    delete(path)
    for name, data in product.others.items():
        write_atomic(path / name, data)
    for name, tensors in product.tensors.items():
        write_tensors(path / name, tensors(), about | {"format": "pt"})  # without it transformers refuses a file


def replace_atomically(draft: Path, target: Path) -> None:
    """Give a draft its name; what had it before is gone only when the draft is there."""
    if not draft.is_dir():
        draft.replace(target)
        return
    former = target.with_name(f".{target.name}.former")
    delete(former)
    if target.exists():
        target.rename(former)
    draft.rename(target)
    delete(former)


def delete(path: Path) -> None:
    """Delete a file or a folder that prep itself wrote, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
