"""prep export: the built data set as other tools want it, linked or copied, never over anything."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.exchange.item import DatasetItem, ExportOptions, check_items
from pipeline.exchange.layouts import ExportLayout
from pipeline.manifest import Manifest
from pipeline.stage import ProgressFn
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace

_BOM = "\ufeff"
_STEP = 64  # of whose multiples the sides of kohya's buckets are
_SIDES = ("width", "height")
_CUT = f"with a side that is no multiple of {_STEP}: kohya's reader cuts it to the next below"
# What kohya's reader would ignore or misread in a caption, and what is said of it.
_DOUBTS: tuple[tuple[Callable[[str], bool], str], ...] = (
    (lambda text: not text.strip(), "of nothing: an empty line, as kohya's reader stops at a file of no bytes"),
    (
        lambda text: bool(re.search(r"[\r\n]", text)),
        "of several lines: kohya's reader takes the first unless told --enable_wildcard",
    ),
    (
        lambda text: text.startswith(_BOM),
        "with a byte order mark, left out: it would be part of the first tag",
    ),
)


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written, and what its reader should know."""

    images: Counter[str] = field(default_factory=Counter)  # by folder
    warnings: Counter[tuple[str, str]] = field(default_factory=Counter)  # of what, and why
    extension: str = ".txt"  # of the caption files

    @property
    def notes(self) -> list[str]:
        return [f"{count:,} {what}{'' if count == 1 else 's'} {why}" for (what, why), count in self.warnings.items()]


def export(workspace: Workspace, layout: ExportLayout, target: Path, shard: int, report: ProgressFn) -> ExportResult:
    """Write the built data set to `target`, whole or not at all; PrepError if there is anything already."""
    manifest = _built(workspace)
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise PrepError(f"{target} exists already.", "Name one that does not: nothing is overwritten.")
    target.parent.mkdir(parents=True, exist_ok=True)
    form = _form(manifest, shard)
    done = ExportResult(extension=form.extension)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        items = _counted(_items(manifest, workspace, done), done, manifest.counts.images, report)
        layout.write(check_items(items), draft / "set", form)
        if target.is_dir():
            target.rmdir()
        (draft / "set").rename(target)
    finally:
        shutil.rmtree(draft)
    return done


def _built(workspace: Workspace) -> Manifest:
    if not workspace.manifest("build").is_file():
        raise PrepError("There is no data set yet.", "First: prep build")
    manifest = Manifest.read(workspace.manifest("build"))
    if not manifest.counts.images:
        raise PrepError("The data set holds no images.", "See why: prep status")
    return manifest


def _form(manifest: Manifest, shard: int) -> ExportOptions:
    """How the set is written, as far as its history says: build's captions, crop's resolution."""
    params = {step.stage: step.params for step in manifest.history}
    return ExportOptions(
        str(params.get("build", {}).get("caption_extension", ".txt")),
        int(params.get("crop", {}).get("resolution", 0)),
        shard,
    )


def _items(manifest: Manifest, workspace: Workspace, done: ExportResult) -> Iterator[DatasetItem]:
    """The placed images in order of their places, their captions as a reader takes them."""
    table = manifest.table(["dataset_path", "caption", "image"]).sort_by("dataset_path")
    for batch in table.to_batches(10_000):
        for row in batch.to_pylist():
            if not row["dataset_path"]:
                continue
            image, caption = workspace.path(row["image"]["path"]), row["caption"].rstrip("\r\n")
            if not image.is_file():
                raise PrepError(f"{escape_control(str(image))} is gone.", "Make it again: prep run")
            if "\0" in caption:
                raise PrepError(
                    f"The caption of {escape_control(row['dataset_path'])} holds a zero byte.", "Mend it: prep edit"
                )
            done.warnings.update(("caption", why) for doubtful, why in _DOUBTS if doubtful(caption))
            done.warnings.update([("image", _CUT)] if any(row["image"][side] % _STEP for side in _SIDES) else [])
            yield DatasetItem(image, row["dataset_path"].partition("/")[2], caption.removeprefix(_BOM))


def _counted(items: Iterator[DatasetItem], done: ExportResult, total: int, report: ProgressFn) -> Iterator[DatasetItem]:
    for number, item in enumerate(items, 1):
        done.images[item.folder] += 1
        yield item
        report(number, total)
