"""prep build: write the dataset folders that trainers read, with regularization images balanced by class."""

from __future__ import annotations

import filecmp
import logging
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.kohya_folders import CAPTION_EXTENSIONS
from pipeline.link import link
from pipeline.manifest import Manifest, read_if_valid
from pipeline.record import Record
from pipeline.stage import DatasetStage, ProgressFn, option
from pipeline.text_files import TextFault, read_text
from pipeline.workspace import Workspace, safe_name
from stages.building.layout import LayoutOptions, Placement, encode_caption, plan_layout, read_repeats, summarize_layout

log = logging.getLogger("prep")


@dataclass(frozen=True, kw_only=True)
class Build(DatasetStage):
    """Write the dataset folders, in the layout of kohya's scripts.

    dataset/train_NAME/10_smith man/, reg_NAME/10_man/ and val_NAME/1_smith man/, each image with a caption file.
    """

    name: ClassVar[str] = "build"

    dataset_name: str = option(
        "", "NAME in train_NAME, reg_NAME and val_NAME; none: the name of the workspace folder.", metavar="NAME"
    )
    repeats: tuple[str, ...] = option(
        [],
        "Times that each image of a subject is used per epoch, such as smith=10; none: as prep.toml says.",
        metavar="TOKEN=N",
    )
    regularization: Literal["folder", "split", "none"] = option(
        "folder", "Regularization images: folder, those of prep.toml; split, half of the training images; or none."
    )
    near_duplicate_bits: int = option(
        6,
        "Leave out regularization images whose perceptual hash differs from a training image's by at most this many "
        "of 64 bits; 0: equal ones.",
        low=0,
        high=32,
    )
    reg_offset: int = option(
        0,
        "Which regularization images to use when there are more than needed: 0 the first ones in random order, 1 the "
        "next ones, and so on in turn.",
        low=0,
    )
    validation_share: float = option(
        0.0,
        "Share of each subject's images held out for validation, usually 0.1; at least one image, and near-duplicates "
        "and copies together. 0: none.",
        low=0,
        high=0.9,
    )
    caption_extension: Literal[".txt", ".caption"] = option(
        ".txt", "Extension of the caption files; give kohya's scripts the same one."
    )
    seed: int = option(0, "Seed of the random order in which images are held out or left out.", low=0)

    def check_input(self, manifest: Manifest) -> None:
        for token in read_repeats(self.repeats).keys() - manifest.distinct("subject"):
            raise PrepError(
                f"build: repeats names {token!r}, which is no subject's token.",
                f"Tokens in prep.toml: {', '.join(sorted(filter(None, manifest.distinct('subject'))))}.",
            )

    def place_records(self, manifest: Manifest, workspace: Workspace) -> Iterator[list[Record]]:
        """The records with their paths in the dataset, or the reason why they are left out; writes nothing."""
        options = LayoutOptions(
            self.dataset_name or workspace.root.name,
            self.repeats,
            self.regularization,
            self.near_duplicate_bits,
            self.seed,
            self.validation_share,
            self.reg_offset,
        )
        placements = plan_layout(options, manifest.records())
        for batch in manifest.batches():
            yield [_place_record(record, placements.get(record.id), workspace) for record in batch]

    def run(self, manifest: Manifest, workspace: Workspace, report: ProgressFn) -> Iterator[list[Record]]:
        target, partial = workspace.dataset, workspace.root / "dataset.partial"
        shutil.rmtree(partial, ignore_errors=True)
        done, total = 0, manifest.counts.images
        for after in self.place_records(manifest, workspace):
            for record in after:
                if record.dataset_path:
                    path = partial / PurePosixPath(record.dataset_path).relative_to(target.name)
                    _write_sample(record, path, self.caption_extension, workspace)
                    done += 1
                    report(done, total)
            yield after
        _replace_dataset(partial, target, workspace)

    def notes(self, manifest: Manifest) -> tuple[str, ...]:
        return tuple(summarize_layout(manifest))

    def missing_outputs(self, manifest: Manifest, workspace: Workspace) -> str:
        """Whether the dataset is gone as a whole; `building/changes.py` finds what people changed in it."""
        return "" if workspace.dataset.is_dir() or not manifest.counts.images else "dataset/ is"


def _place_record(record: Record, placement: Placement | None, workspace: Workspace) -> Record:
    if placement is None:
        return record
    if placement.drop is not None:
        return replace(record, drop=placement.drop)
    # An image from a dataset that prep wrote has an id in its name already: replace it.
    stem = re.sub(r"-[0-9a-f]{16}(-[0-9]+)?$", "", safe_name(PurePosixPath(record.source).stem))[:40]
    dataset_path = f"{workspace.dataset.name}/{placement.folder}/{stem}-{record.id}.png"
    if placement.role != "reg" or record.role == "reg":
        return replace(record, dataset_path=dataset_path, role=placement.role)
    # An image that the split made a regularization image stands for its class, not for the subject.
    return replace(record, dataset_path=dataset_path, role=placement.role, subject="", caption=record.class_name)


def write_dataset(manifest: Manifest, workspace: Workspace) -> None:
    """Write dataset/ as the manifest of a build describes it; PrepError for a manifest with paths outside of it.

    The manifest may come from another machine, so its paths are not trusted.
    """
    extension = str(manifest.history[-1].params.get("caption_extension"))
    if extension not in (".txt", ".caption"):
        raise PrepError(f"{manifest.path} is no manifest of a build.", "Write it again: prep build")
    partial = workspace.root / "dataset.partial"
    shutil.rmtree(partial, ignore_errors=True)
    for record in manifest.records():
        if record.dataset_path:
            path = workspace.path(record.dataset_path)
            if not path.is_relative_to(workspace.dataset):
                raise PrepError(
                    f"{manifest.path} names {record.dataset_path!r}.", "It is outside dataset/: use one that you trust."
                )
            _write_sample(record, partial / path.relative_to(workspace.dataset), extension, workspace)
    _replace_dataset(partial, workspace.dataset, workspace)


def _write_sample(record: Record, path: Path, extension: str, workspace: Workspace) -> None:
    """One image, linked or copied, and its caption."""
    assert record.image is not None
    image = workspace.path(record.image.path)
    try:
        link(image, path)
    except FileNotFoundError:
        raise PrepError(f"{image} is missing.", "Write it again: prep run") from None
    path.with_suffix(extension).write_bytes(encode_caption(record.caption))


def _replace_dataset(partial: Path, target: Path, workspace: Workspace) -> None:
    """Replace the dataset with the new one; an old one with files that prep did not write is kept as a backup."""
    partial.mkdir(exist_ok=True)
    if target.exists():
        foreign = _foreign_file(target, partial, workspace)
        old = _backup_path(target) if foreign else workspace.root / "dataset.old"
        if foreign:
            log.warning("dataset/ had files that prep did not write (%s); it is kept as %s/", foreign, old.name)
        else:
            shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        if not foreign:
            partial.rename(target)
            shutil.rmtree(old)
            return
    partial.rename(target)


def _foreign_file(target: Path, partial: Path, workspace: Workspace) -> str:
    """A file in `target` that no build wrote, or that was changed since; empty if there is none.

    The new build in `partial` counts too: an interrupted run may have moved it into place already.
    """
    expected: dict[str, bytes | None] = {}
    manifest = read_if_valid(workspace.manifest("build"))
    if manifest is not None:
        extension = str(manifest.history[-1].params["caption_extension"])
        for record in manifest.records():
            if record.dataset_path:
                expected[record.dataset_path] = None
                expected[str(PurePosixPath(record.dataset_path).with_suffix(extension))] = encode_caption(
                    record.caption
                )
    for path in sorted(target.rglob("*")):
        name = path.relative_to(workspace.root).as_posix()
        if not path.is_file() or (name in expected and _holds(path, expected[name])):
            continue
        new = partial / path.relative_to(target)
        if not (new.is_file() and (filecmp.cmp(path, new, shallow=False) or _same_text(path, new.read_bytes()))):
            return name
    return ""


def _holds(path: Path, wanted: bytes | None) -> bool:
    """Whether a file holds the wanted bytes, or the same text; None stands for any."""
    return wanted is None or path.read_bytes() == wanted or _same_text(path, wanted)


def _same_text(path: Path, wanted: bytes) -> bool:
    """Whether a caption file holds the same text as some bytes, in any encoding and with any final line end."""
    try:
        return path.suffix in CAPTION_EXTENSIONS and read_text(path).strip("\r\n") == wanted.decode().strip("\r\n")
    except (TextFault, UnicodeDecodeError):
        return False


def _backup_path(target: Path) -> Path:
    number = 1
    while (path := target.with_name(f"{target.name}.backup-{number}")).exists():
        number += 1
    return path
