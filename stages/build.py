"""prep build: the folders a trainer reads, with balanced regularization beside the training set."""

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
from pipeline.link import link
from pipeline.manifest import Manifest
from pipeline.record import Record
from pipeline.stage import DatasetStage, ProgressFn, option
from pipeline.workspace import Workspace, safe_name
from stages.building.layout import LayoutOptions, Placement, encode_caption, plan_layout, read_repeats, summarize_layout

log = logging.getLogger("prep")


@dataclass(frozen=True, kw_only=True)
class Build(DatasetStage):
    """Lay out the folders that a trainer reads.

    dataset/train_NAME/10_smith man/, reg_NAME/10_man/ and val_NAME/1_smith man/, a caption beside each image.
    """

    name: ClassVar[str] = "build"

    dataset_name: str = option(
        "", "NAME in train_NAME and reg_NAME; the workspace folder's name if empty.", metavar="NAME"
    )
    repeats: tuple[str, ...] = option(
        [], "Repeats of one subject's images, as smith=10; otherwise prep.toml's.", metavar="TOKEN=N"
    )
    regularization: Literal["folder", "split", "none"] = option(
        "folder", "Where regularization images come from: their folders, half of the training images, or nowhere."
    )
    near_duplicate_bits: int = option(
        6,
        "A regularization image within this many bits of a training image's perceptual hash is left out.",
        low=0,
        high=32,
    )
    reg_offset: int = option(
        0,
        "Whose turn it is where there are more regularization images than drawings: 1 takes those after the "
        "first ones in the seed's order, 2 the next, until all had their turn.",
        low=0,
    )
    validation_share: float = option(
        0.0,
        "Share of each subject's images held out for validation, near-duplicates and copies together, at least "
        "one; 0 for none.",
        low=0,
        high=0.9,
    )
    caption_extension: Literal[".txt", ".caption"] = option(
        ".txt", "Ending of the caption files; kohya must be told it."
    )
    seed: int = option(0, "Decides which images are taken where not all are.", low=0)

    def check_input(self, manifest: Manifest) -> None:
        for token in read_repeats(self.repeats).keys() - manifest.distinct("subject"):
            raise PrepError(f"build: repeats names {token!r}, which is no subject's token.", "See prep.toml for those.")

    def place_records(self, manifest: Manifest, workspace: Workspace) -> Iterator[list[Record]]:
        """The records with their places in the data set and what that makes of them; writes nothing."""
        wish = LayoutOptions(
            self.dataset_name or workspace.root.name,
            self.repeats,
            self.regularization,
            self.near_duplicate_bits,
            self.seed,
            self.validation_share,
            self.reg_offset,
        )
        fates = plan_layout(wish, manifest.records())
        for batch in manifest.batches():
            yield [_place_record(record, fates.get(record.id), workspace) for record in batch]

    def run(self, manifest: Manifest, workspace: Workspace, report: ProgressFn) -> Iterator[list[Record]]:
        target, partial = workspace.dataset, workspace.root / "dataset.partial"
        shutil.rmtree(partial, ignore_errors=True)
        done, total = 0, manifest.counts.images
        for after in self.place_records(manifest, workspace):
            for record in after:
                if record.dataset_path:
                    place = partial / PurePosixPath(record.dataset_path).relative_to(target.name)
                    _write_sample(record, place, self.caption_extension, workspace)
                    done += 1
                    report(done, total)
            yield after
        _replace_dataset(partial, target, workspace)

    def notes(self, manifest: Manifest) -> tuple[str, ...]:
        return tuple(summarize_layout(manifest))

    def missing_outputs(self, manifest: Manifest, workspace: Workspace) -> str:
        """Whether an image or caption of the data set is gone or another than was written."""
        there = {path.relative_to(workspace.root).as_posix(): path for path in workspace.dataset.rglob("*")}
        table = manifest.table(["dataset_path", "caption"])
        for placed, words in zip(table["dataset_path"].to_pylist(), table["caption"].to_pylist(), strict=True):
            if not placed:
                continue
            caption = there.get(str(PurePosixPath(placed).with_suffix(self.caption_extension)))
            if placed not in there or caption is None:
                return "a file of dataset/ is"
            if caption.read_bytes() != encode_caption(words):
                return "a caption as prep wrote it is"
        return ""


def _place_record(record: Record, fate: Placement | None, workspace: Workspace) -> Record:
    if fate is None:
        return record
    if fate.drop is not None:
        return replace(record, drop=fate.drop)
    # An image that came out of a data set of prep's already has an id in its name: names do not grow.
    stem = re.sub(r"-[0-9a-f]{16}(-[0-9]+)?$", "", safe_name(PurePosixPath(record.source).stem))[:40]
    placed = f"{workspace.dataset.name}/{fate.folder}/{stem}-{record.id}.png"
    if fate.role != "reg" or record.role == "reg":
        return replace(record, dataset_path=placed, role=fate.role)
    # An image that the split turned into regularization shows its class, not the subject.
    return replace(record, dataset_path=placed, role=fate.role, subject="", caption=record.class_name)


def _write_sample(record: Record, path: Path, extension: str, workspace: Workspace) -> None:
    """One image, linked or copied, and its caption."""
    assert record.image is not None
    image = workspace.path(record.image.path)
    try:
        link(image, path)
    except FileNotFoundError:
        raise PrepError(f"{image} is gone.", "Make it again: prep run") from None
    path.with_suffix(extension).write_bytes(encode_caption(record.caption))


def _replace_dataset(partial: Path, target: Path, workspace: Workspace) -> None:
    """Put the new data set in the old one's place; an old one that holds anything of the user's is kept aside."""
    partial.mkdir(exist_ok=True)
    if target.exists():
        strange = _foreign_file(target, partial, workspace)
        aside = _backup_path(target) if strange else workspace.root / "dataset.old"
        if strange:
            log.warning("dataset/ held files that prep did not write (%s); it is kept as %s/", strange, aside.name)
        else:
            shutil.rmtree(aside, ignore_errors=True)
        target.rename(aside)
        if not strange:
            partial.rename(target)
            shutil.rmtree(aside)
            return
    partial.rename(target)


def _foreign_file(target: Path, partial: Path, workspace: Workspace) -> str:
    """A file below `target` that no build of ours wrote or that was changed since; empty if there is none.

    The new build in `partial` counts too: an interrupted prep may have put it in place already.
    """
    expected: dict[str, bytes | None] = {}
    last = workspace.manifest("build")
    if last.is_file():
        manifest = Manifest.read(last)
        extension = str(manifest.history[-1].params["caption_extension"])
        for record in manifest.records():
            if record.dataset_path:
                expected[record.dataset_path] = None
                expected[str(PurePosixPath(record.dataset_path).with_suffix(extension))] = encode_caption(
                    record.caption
                )
    for path in sorted(target.rglob("*")):
        name = path.relative_to(workspace.root).as_posix()
        if not path.is_file() or (name in expected and expected[name] in (None, path.read_bytes())):
            continue
        twin = partial / path.relative_to(target)
        if not (twin.is_file() and filecmp.cmp(path, twin, shallow=False)):
            return name
    return ""


def _backup_path(target: Path) -> Path:
    number = 1
    while (path := target.with_name(f"{target.name}.kept-{number}")).exists():
        number += 1
    return path
