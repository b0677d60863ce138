"""prep pack: one file of a workspace, to train on another machine: images, manifests, decisions and the recipe."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pipeline.errors import PrepError
from pipeline.exchange.archives import is_image_or_caption
from pipeline.manifest import Manifest
from pipeline.recipe import GENERATED, Recipe
from pipeline.stage import ProgressFn
from pipeline.tag_text import escape_control
from pipeline.workspace import RECIPE, Workspace, whole_file

CONTENTS = "pack.json"  # the first member: what the others are
FORMAT = 1
OWN = ("images", "manifests", "decisions")  # folders of the workspace that are packed
LEFT = ("cache", "dataset", "runs", GENERATED)  # prep's other folders: results, and what is made again
_TRAINED = ("train", "train.source")  # manifests of a run, which stays here


@dataclass(frozen=True, slots=True)
class PackResult:
    """What was packed, and which files that prep.toml names were not."""

    files: Counter[str] = field(default_factory=Counter)  # by folder
    bytes: int = 0
    left_out: dict[str, str] = field(default_factory=dict)  # by option: its value


def pack(workspace: Workspace, recipe: Recipe, target: Path, report: ProgressFn) -> PackResult:
    """Write a tar of the workspace, without compression, since images do not shrink; the same workspace, same bytes.

    Files that prep.toml names are packed if they lie in the workspace and are no models; the others are listed.
    PrepError if `target` exists, and before anything was cropped.
    """
    if target.exists() or target.is_symlink():
        raise PrepError(f"{target} exists already.", "Name a file that does not exist: nothing is overwritten.")
    if not workspace.manifest("crop").is_file():
        raise PrepError("There is nothing to pack yet.", "First: prep run")
    named, left_out = _named_files(workspace, recipe)
    paths = sorted({*_own_files(workspace), *named})
    result = PackResult(Counter(name.partition("/")[0] for name in paths), _size(workspace, paths), left_out)
    contents = {"format": FORMAT, "files": len(paths), "bytes": result.bytes, "not_packed": left_out}
    with whole_file(target) as draft, tarfile.open(draft, "w", format=tarfile.PAX_FORMAT) as tar:
        first = json.dumps(contents, ensure_ascii=False, sort_keys=True).encode()
        _add(tar, CONTENTS, len(first), io.BytesIO(first))
        for number, name in enumerate(paths, 1):
            with (workspace.root / name).open("rb") as file:
                _add(tar, name, os.fstat(file.fileno()).st_size, file)
            report(number, len(paths))
    return result


def _own_files(workspace: Workspace) -> Iterator[str]:
    """The recipe, people's decisions, the manifests but those of training, and the images that they name."""
    yield RECIPE
    folders = [workspace.manifest("crop").parent, workspace.root / "decisions"]
    for path in (path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())):
        if path.is_file() and not path.is_symlink() and not path.name.startswith(".") and path.stem not in _TRAINED:
            yield workspace.relative(path)
            if path.suffix == ".parquet" and path.parent == folders[0]:
                yield from _images(Manifest.read(path), workspace)


def _images(manifest: Manifest, workspace: Workspace) -> Iterator[str]:
    for table in manifest.tables(["image.path"]):
        for image in table.column("image").to_pylist():
            if image is None or not image["path"]:
                continue
            path = workspace.path(image["path"])
            if not path.is_file():
                raise PrepError(f"{path} is missing.", "Write it again: prep run")
            yield workspace.relative(path)


def _named_files(workspace: Workspace, recipe: Recipe) -> tuple[list[str], dict[str, str]]:
    """The files that options in prep.toml name: those to pack, and the options of the others."""
    packed: list[str] = []
    left_out: dict[str, str] = {}
    for option, text in _texts(recipe.tables):
        path = workspace.source(os.path.expanduser(text))  # noqa: PTH111 - raises for an unknown ~name
        if not text or not path.exists() or path == workspace.root:
            continue
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        files = [file for file in files if not file.is_dir()]
        if files and all(_can_be_packed(file, workspace) for file in files):
            packed += map(workspace.relative, files)
        else:
            left_out[option] = text
    return packed, left_out


def _texts(tables: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Every text in the tables of prep.toml, with the option that has it, such as 'train.base'."""
    for name, value in tables.items():
        if isinstance(value, Mapping):
            yield from _texts(value, f"{above}{name}.")
        for text in value if isinstance(value, list | tuple) else [value]:
            if isinstance(text, str):
                yield f"{above}{name}", text


def _can_be_packed(file: Path, workspace: Workspace) -> bool:
    """Whether a file is an image or a text of the workspace, so neither a model nor a file of prep's."""
    if not file.is_file() or file.is_symlink() or not file.is_relative_to(workspace.root):
        return False
    path = PurePosixPath(workspace.relative(file))
    return path.parts[0] not in (*OWN, *LEFT) and is_image_or_caption(path)


def _size(workspace: Workspace, paths: list[str]) -> int:
    return sum((workspace.root / name).stat().st_size for name in paths)


def _add(tar: tarfile.TarFile, name: str, size: int, file: IO[bytes]) -> None:
    """Add a file without its time and owner, so that the bytes are reproducible."""
    if not name.isprintable():
        raise PrepError(f"{escape_control(name)} has a name that cannot be packed.", "Rename it.")
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    tar.addfile(member, file)
