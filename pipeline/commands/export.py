"""prep export: writes the built dataset in another tool's layout; images are linked or copied, nothing is replaced."""

from __future__ import annotations

import math
import re
import shlex
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.exchange.item import BUCKET_STEP, DatasetItem, ExportOptions, bucket_options, bucket_side, check_items
from pipeline.exchange.layouts import ExportLayout
from pipeline.manifest import Manifest
from pipeline.plural import counted
from pipeline.stage import ProgressFn
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace

_BOM = "\ufeff"
_SIDES = ("width", "height")
_CROPPED = f"with a side that is not a multiple of {BUCKET_STEP}: kohya's trainer crops it"
# What kohya's trainer ignores or misreads in a caption, and the warning about it.
_CAPTION_WARNINGS: tuple[tuple[Callable[[str], bool], str], ...] = (
    (
        lambda text: not text.strip(),
        "without text, written as an empty line: kohya's trainer stops at an empty file",
    ),
    (
        lambda text: bool(re.search(r"[\r\n]", text)),
        "of several lines: kohya's trainer takes the first, unless it has --enable_wildcard",
    ),
    (
        lambda text: text.startswith(_BOM),
        "with a byte order mark, which is removed: it would become part of the first tag",
    ),
)


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written, and what the other tool would misread."""

    images: Counter[str] = field(default_factory=Counter)  # by folder
    warnings: Counter[tuple[str, str]] = field(default_factory=Counter)  # 'caption' or 'image', and the warning
    options: ExportOptions = field(default_factory=ExportOptions)

    @property
    def parents(self) -> list[str]:
        """The parents of the folders, such as train_x and reg_x."""
        return sorted({folder.partition("/")[0] for folder in self.images})

    def next_step(self, layout: ExportLayout, target: Path) -> str:
        """How to use what was written, in a command that works when pasted."""
        arguments = {"train": "--train_data_dir", "reg": "--reg_data_dir"}
        folders = [
            f"{arguments[role]} {shlex.quote(str(target / parent))}"
            for role in arguments
            for parent in self.parents
            if parent.partition("_")[0] == role
        ]
        buckets = [f"--resolution {self.options.resolution}"] if self.options.resolution else []
        for name, value in bucket_options(self.options).items():
            buckets.append(f"--{name}" if value is True else f"--{name} {value}")
        return layout.next_step.format(
            target=shlex.quote(str(target)),
            extension=self.options.extension,
            folders=" ".join(folders),
            buckets=" ".join(buckets),
        )

    @property
    def notes(self) -> list[str]:
        return [f"{counted(count, noun)} {warning}" for (noun, warning), count in self.warnings.items()]


def export(
    workspace: Workspace, layout: ExportLayout, target: Path, shard_bytes: int, report: ProgressFn
) -> ExportResult:
    """Write the built dataset to `target`, all of it or nothing; PrepError if `target` exists."""
    manifest = _built(workspace)
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise PrepError(f"{target} exists already.", "Name a path that does not exist: nothing is overwritten.")
    target.parent.mkdir(parents=True, exist_ok=True)
    options = _options(manifest, shard_bytes)
    result = ExportResult(options=options)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        items = _with_progress(_items(manifest, workspace, result), result, manifest.counts.images, report)
        layout.write(check_items(items), draft / "set", options)
        if target.is_dir():
            target.rmdir()
        (draft / "set").rename(target)
    finally:
        shutil.rmtree(draft)
    return result


def _built(workspace: Workspace) -> Manifest:
    if not workspace.manifest("build").is_file():
        raise PrepError("There is no dataset yet.", "First: prep build")
    manifest = Manifest.read(workspace.manifest("build"))
    if not manifest.counts.images:
        raise PrepError("The dataset has no images.", "See why: prep status")
    return manifest


def _options(manifest: Manifest, shard_bytes: int) -> ExportOptions:
    """The options that a manifest gives: build's caption extension, and the sizes of its images."""
    import pyarrow.compute as pc

    params = {step.stage: step.params for step in manifest.history}
    table = manifest.table(["dataset_path", "image.width", "image.height"])
    image = table.filter(pc.not_equal(table["dataset_path"], "")).column("image").combine_chunks()
    width, height = (pc.struct_field(image, side).cast("int64") for side in _SIDES)
    area = pc.max(pc.multiply(width, height)).as_py() or 1
    sides = [pc.min_max(side).as_py() for side in (width, height)]
    return ExportOptions(
        str(params.get("build", {}).get("caption_extension", ".txt")),
        bucket_side(math.isqrt(area - 1) + 1),
        (min(side["min"] for side in sides), max(side["max"] for side in sides)),
        shard_bytes,
    )


def _items(manifest: Manifest, workspace: Workspace, result: ExportResult) -> Iterator[DatasetItem]:
    """The dataset's images in order of their paths, with captions that a trainer reads as meant."""
    table = manifest.table(["dataset_path", "caption", "image"]).sort_by("dataset_path")
    for batch in table.to_batches(10_000):
        for row in batch.to_pylist():
            if not row["dataset_path"]:
                continue
            image, caption = workspace.path(row["image"]["path"]), row["caption"].rstrip("\r\n")
            if not image.is_file():
                raise PrepError(f"{escape_control(str(image))} is missing.", "Make it again: prep run")
            if "\0" in caption:
                raise PrepError(
                    f"The caption of {escape_control(row['dataset_path'])} holds a zero byte.",
                    'Write it again: prep edit NAME --set "..."',
                )
            result.warnings.update(("caption", why) for applies, why in _CAPTION_WARNINGS if applies(caption))
            result.warnings.update(
                [("image", _CROPPED)] if any(row["image"][side] % BUCKET_STEP for side in _SIDES) else []
            )
            yield DatasetItem(image, row["dataset_path"].partition("/")[2], caption.removeprefix(_BOM))


def _with_progress(
    items: Iterator[DatasetItem], result: ExportResult, total: int, report: ProgressFn
) -> Iterator[DatasetItem]:
    """The items; counts them by folder."""
    for number, item in enumerate(items, 1):
        result.images[item.folder] += 1
        yield item
        report(number, total)
