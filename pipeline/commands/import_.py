"""prep import: makes a workspace of another tool's dataset, with its subjects, repeats and captions."""

from __future__ import annotations

import math
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.commands.init import InitOptions, choose_taggers, init
from pipeline.edits import Edit
from pipeline.errors import PrepError
from pipeline.exchange.archives import is_archive, unpack
from pipeline.exchange.item import DatasetItem
from pipeline.exchange.layouts import find_reader
from pipeline.imaging.image_file import UnreadableImage, upright_size
from pipeline.journal import JOURNAL, Decision, Journal
from pipeline.kohya_faults import ReaderFault, summarize
from pipeline.kohya_folders import DatasetFolder, distinct_tokens
from pipeline.orphans import caption_beside, text_digest
from pipeline.plural import counted
from pipeline.recipe import Recipe
from pipeline.record import Record
from pipeline.registry import ORDER, tables
from pipeline.sources import scan
from pipeline.stage import ProgressFn
from pipeline.tag_text import escape_control
from pipeline.text_files import TextFault
from pipeline.workspace import Workspace

IMAGES = "images"  # the workspace's folder of images that were copied or unpacked
_MEASURED = 1000  # images whose sizes tell whether the dataset is cropped already
_STEPS = (64, 32, 16, 8)  # multiples of which a cropped image's sides may be


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What was imported."""

    workspace: Workspace
    layout: str
    images: Counter[tuple[str, str, str]]  # by role, token and class
    captions: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How to import."""

    subject: tuple[str, str] | None = None  # token and class of images whose folder does not name them
    copy: bool = False  # whether to copy the images into the workspace


@dataclass(frozen=True, slots=True)
class _ImportedSet:
    """A dataset as its reader found it."""

    items: list[DatasetItem]
    folders: Mapping[str, DatasetFolder]  # what the folders of the items' paths say
    faults: list[str]  # what is left out, a sentence each


def import_dataset(source: Path, folder: Path, options: ImportOptions, report: ProgressFn) -> ImportResult:
    """Make the workspace `folder` from the dataset at `source`, which is only read.

    PrepError if `folder` holds a workspace, images or decisions already, for a hostile archive, and for a
    dataset whose subjects cannot be distinguished. Then nothing of the new workspace stays.
    """
    workspace = Workspace(folder.resolve())
    created = [workspace.root / IMAGES, workspace.path(JOURNAL).parent, workspace.cache]
    if workspace.recipe.exists() or any(path.exists() for path in created[:2]):
        raise PrepError(f"{folder} holds a workspace already.", "Name another folder.")
    if not source.exists():
        raise PrepError(f"{escape_control(str(source))} does not exist.", "Name a folder, a zip or tar shards.")
    created = [path for path in (workspace.root, *created) if not path.exists()]
    workspace.root.mkdir(parents=True, exist_ok=True)
    try:
        return _import(source, workspace, options, report)
    except BaseException:
        workspace.recipe.unlink(missing_ok=True)
        for path in created:
            shutil.rmtree(path, ignore_errors=True)
        raise


def _import(source: Path, workspace: Workspace, options: ImportOptions, report: ProgressFn) -> ImportResult:
    images = workspace.root / IMAGES
    packed = is_archive(source)
    if packed:
        unpack(source, images)
    root = images if packed else source.resolve()
    reader = find_reader(root)
    subject = " ".join(dict.fromkeys(options.subject or ()))
    found = list(reader.read(root, subject))
    items = [item for item in found if isinstance(item, DatasetItem)]
    if any(not item.folder_spec.text for item in items):
        raise PrepError(
            f"{escape_control(str(source))} does not say what its images show.", "Add: --subject TOKEN CLASS"
        )
    if not items:
        raise PrepError(f"There are no images in {escape_control(str(source))}.", "Name the folder that holds them.")
    if options.copy and not packed:
        items = [_copied(item, images) for item in items]
    faults = summarize((item for item in found if isinstance(item, ReaderFault)), root)
    dataset = _ImportedSet(items, _folder_specs(items), list(faults))
    _write_recipe(workspace, dataset, _folders_on_disk(dataset, packed))
    return _write_captions(workspace, dataset, reader.description, report)


def _copied(item: DatasetItem, folder: Path) -> DatasetItem:
    path = folder / item.dataset_path
    path.parent.mkdir(parents=True, exist_ok=True)
    with item.image.open("rb") as source, path.open("xb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    return replace(item, image=path)


def _folder_specs(items: Iterable[DatasetItem]) -> dict[str, DatasetFolder]:
    """What the folders of a dataset say."""
    specs = {item.folder: item.folder_spec for item in items}
    distinct = distinct_tokens(specs.values())
    return {folder: distinct[spec] for folder, spec in specs.items()}


def _folders_on_disk(dataset: _ImportedSet, packed: bool) -> dict[str, Path]:
    """The folder on disk of each folder of a dataset; PrepError if one holds the images of two."""
    folders: dict[str, Path] = {}
    for item in dataset.items:
        parent = item.image.parent
        folders[item.folder] = Path(os.path.commonpath((folders.get(item.folder, parent), parent)))
    for item in dataset.items:
        owners = [folder for folder, path in folders.items() if item.image.is_relative_to(path)]
        nearest = max(owners, key=lambda folder: (len(folders[folder].parts), folder == item.folder))
        if nearest != item.folder or sum(folders[folder] == folders[nearest] for folder in owners) > 1:
            raise PrepError(
                f"{escape_control(str(item.image.parent))} holds images of two subjects or roles.",
                "Unpack it and import the folder with --copy."
                if packed
                else "Let prep copy them into separate folders: --copy",
            )
    return folders


def _write_recipe(workspace: Workspace, dataset: _ImportedSet, on_disk: Mapping[str, Path]) -> None:
    """Write prep.toml: subjects with their folders and repeats, regularization, and the size of cropped images."""
    by_token: dict[str, dict[str, tuple[DatasetFolder, str]]] = {"train": {}, "val": {}}
    regularization = []
    for folder, spec in dataset.folders.items():
        path = os.path.relpath(on_disk[folder])  # which init makes relative to the workspace
        if spec.role == "reg":
            regularization.append((spec.class_name, path))
        elif spec.token in by_token[spec.role]:
            raise PrepError(
                f"Two folders are of the subject {escape_control(spec.text)!r}.",
                "Put their images into one folder, or rename one of the subjects.",
            )
        else:
            by_token[spec.role][spec.token] = (spec, path)
    if lost := by_token["val"].keys() - by_token["train"].keys():
        raise PrepError(
            f"{escape_control(min(lost))!r} has validation images but no training images.",
            "Delete or move its validation folder.",
        )
    options = InitOptions(
        tuple((spec.token, spec.class_name, path) for spec, path in by_token["train"].values()),
        tuple(regularization),
        {"crop": _crop_options(dataset.items), "build": {"dataset_name": _dataset_name(dataset.folders)}},
        {token: spec.repeats for token, (spec, _) in by_token["train"].items()},
        {token: path for token, (_, path) in by_token["val"].items()},
    )
    taggers, _ = choose_taggers((), options)
    if any(item.caption is None for item in dataset.items):
        taggers = tuple(dict.fromkeys((*taggers, "basic")))  # an image without a caption needs some
    init(workspace.root, options, tables(taggers))


def _dataset_name(folders: Mapping[str, DatasetFolder]) -> str:
    """NAME of the folder train_NAME, so that prep build gives its folders the same name."""
    parent = next((folder for folder, spec in folders.items() if spec.role == "train"), "").rpartition("/")[0]
    return parent.rpartition("/")[2].removeprefix("train_")


def _crop_options(items: Sequence[DatasetItem]) -> dict[str, Any]:
    """Options of crop that leave images of bucket sizes as they are; none when the images are not cropped yet."""
    sample = items[:: math.ceil(len(items) / _MEASURED)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sizes = {size for size in pool.map(lambda item: _size(item.image), sample) if size}
    step = next((step for step in _STEPS if all(side % step == 0 for size in sizes for side in size)), 0)
    if not sizes or not step:
        return {}
    area, sides = max(width * height for width, height in sizes), [side for size in sizes for side in size]
    resolution = math.isqrt(area - 1) + 1  # the least whose buckets hold all these sizes
    options = {"resolution": resolution} | ({} if step == _STEPS[0] else {"bucket_step": step})
    if min(sides) < resolution // 2 or max(sides) > resolution * 2:
        options |= {"min_side": min(sides), "max_side": max(sides)}
    return options if min(sides) >= _STEPS[0] else {}


def _size(image: Path) -> tuple[int, int] | None:
    try:
        return upright_size(image.read_bytes())
    except (UnreadableImage, OSError):
        return None


def _write_captions(workspace: Workspace, dataset: _ImportedSet, layout: str, report: ProgressFn) -> ImportResult:
    """Write every caption as an edit of its record, so that no tagger changes it; counts what was imported.

    prep.toml names folders: images in them that the dataset does not hold are dropped by an edit.
    """
    by_source = {workspace.relative(item.image): item for item in dataset.items}
    records = scan(workspace, Recipe.read(workspace.recipe, ORDER), report).records
    pairs = [(record, by_source[record.source]) for record in records if record.source in by_source]
    kept = [(record, item) for record, item in pairs if record.kept]
    others = [record for record in records if record.kept and record.source not in by_source]
    decisions = [_decision(record, item, item.caption) for record, item in kept if item.caption is not None]
    captions = len(decisions)
    decisions += [Decision(record.id, Edit("drop"), record.source) for record in others]
    Journal.read(workspace).append_each(workspace, decisions)
    images = Counter[tuple[str, str, str]]()
    for _, item in kept:
        spec = dataset.folders[item.folder]
        images[spec.role, spec.token, spec.class_name] += 1
    notes = (*dataset.faults, *_notes(pairs, len(others)))
    return ImportResult(workspace, layout, images, captions, notes)


def _decision(record: Record, item: DatasetItem, caption: str) -> Decision:
    """The caption as an edit; one from a file next to the image remembers its text, so that a change is noticed."""
    try:
        beside = caption_beside(item.image)
    except TextFault:
        beside = None  # the caption comes from a table
    from_file = beside is not None and beside == caption.rstrip("\r\n")
    return Decision(record.id, Edit("set", caption), record.source, text_digest(beside or "") if from_file else "")


def _notes(pairs: list[tuple[Record, DatasetItem]], others: int) -> Iterator[str]:
    for reason, count in Counter(record.drop.reason for record, _ in pairs if record.drop).items():
        yield f"{counted(count, 'image')} left out: {reason}"
    if without := sum(item.caption is None for record, item in pairs if record.kept):
        yield f"{counted(without, 'image')} without a caption: prep tag and prep merge write one"
    if multiline := sum(len((item.caption or "").splitlines()) > 1 for record, item in pairs if record.kept):
        yield f"{counted(multiline, 'caption')} of several lines, kept as written"
    if others:
        yield f"{counted(others, 'more image')} in the folders dropped: to keep one, prep edit NAME --restore"
