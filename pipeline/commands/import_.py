"""prep import: a data set of another tool as a workspace: its subjects, its repeats, its captions word for word."""

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

from pipeline.commands.init import InitOptions, init
from pipeline.edits import JOURNAL, Edit, Journal
from pipeline.errors import PrepError
from pipeline.exchange.archives import is_archive, unpack
from pipeline.exchange.item import DatasetItem
from pipeline.exchange.layouts import find_reader
from pipeline.imaging.image_file import Unreadable, upright_size
from pipeline.recipe import Recipe
from pipeline.record import Record
from pipeline.registry import ORDER, tables
from pipeline.sources import scan
from pipeline.stage import ProgressFn
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace
from stages.building.layout import DatasetFolder

IMAGES = "images"  # the workspace's folder of images that were copied or unpacked
_LOOK_AT = 1000  # images whose sizes tell whether the set is cropped already
_STEPS = (64, 32, 16, 8)  # multiples of which a cropped image's sides may be


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import made of a set."""

    workspace: Workspace
    layout: str
    images: Counter[tuple[str, str, str]]  # by set, token and class
    captions: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How to import: whose images they are where no name tells, and whether to copy them."""

    subject: tuple[str, str] | None = None  # token and class
    copy: bool = False


def import_dataset(source: Path, folder: Path, wish: ImportOptions, report: ProgressFn) -> ImportResult:
    """Make the workspace `folder` of the set at `source`; the set itself is only read.

    PrepError if `folder` holds a workspace, images or decisions already, for a hostile archive, and for a
    set whose subjects cannot be told apart. Then nothing of the new workspace stays.
    """
    workspace = Workspace(folder.resolve())
    made = [workspace.root / IMAGES, workspace.path(JOURNAL).parent, workspace.cache]
    if workspace.recipe.exists() or any(path.exists() for path in made[:2]):
        raise PrepError(f"{folder} holds a workspace already.", "Name another folder.")
    if not source.exists():
        raise PrepError(f"{escape_control(str(source))} does not exist.", "Name a folder, a zip or tar shards.")
    made = [path for path in (workspace.root, *made) if not path.exists()]
    workspace.root.mkdir(parents=True, exist_ok=True)
    try:
        return _import(source, workspace, wish, report)
    except BaseException:
        workspace.recipe.unlink(missing_ok=True)
        for path in made:
            shutil.rmtree(path, ignore_errors=True)
        raise


def _import(source: Path, workspace: Workspace, wish: ImportOptions, report: ProgressFn) -> ImportResult:
    new = workspace.root / IMAGES
    packed = is_archive(source)
    if packed:
        unpack(source, new)
    root = new if packed else source.resolve()
    reader = find_reader(root)
    if not (reader.whole or wish.subject) and any(map(_nameless, reader.read(root, ""))):
        raise PrepError(
            f"{escape_control(str(source))} does not say whose images they are.", "Say it: --subject TOKEN CLASS"
        )
    items = list(reader.read(root, " ".join(dict.fromkeys(wish.subject or ()))))
    if not items:
        raise PrepError(f"There are no images in {escape_control(str(source))}.", "Name the folder that holds them.")
    if wish.copy and not packed:
        items = [_copied(item, new) for item in items]
    shelves = _shelves(items)
    _begin(workspace, _homes(items, shelves, packed), shelves, items)
    return _with_captions(items, shelves, ImportResult(workspace, reader.description, Counter(), 0, ()), report)


def _nameless(item: DatasetItem) -> bool:
    """Whether nothing in the set says what the image is for."""
    return not item.folder_spec.text


def _copied(item: DatasetItem, new: Path) -> DatasetItem:
    place = new / item.dataset_path
    place.parent.mkdir(parents=True, exist_ok=True)
    with item.image.open("rb") as old, place.open("xb") as file:
        shutil.copyfileobj(old, file, 1 << 20)
    return replace(item, image=place)


def _shelves(items: Iterable[DatasetItem]) -> dict[str, DatasetFolder]:
    """What the folders of the set are for. Where two of one role begin with the same word, all of it is the token."""
    shelves = {item.folder: item.folder_spec for item in items}
    for role in ("train", "val"):
        begun = Counter(shelf.token for shelf in shelves.values() if shelf.role == role)
        for folder, shelf in shelves.items():
            if shelf.role != "reg" and begun[shelf.token] > 1:
                shelves[folder] = replace(shelf, token=shelf.text, class_name=shelf.text)
    return shelves


def _homes(items: Iterable[DatasetItem], shelves: Mapping[str, DatasetFolder], packed: bool) -> dict[str, Path]:
    """The folder on disk of each folder of the set; PrepError if one holds images of two."""
    homes: dict[str, Path] = {}
    for item in items:
        here = item.image.parent
        homes[item.folder] = Path(os.path.commonpath((homes.get(item.folder, here), here)))
    for item in items:
        owners = [folder for folder, home in homes.items() if item.image.is_relative_to(home)]
        nearest = max(owners, key=lambda folder: (len(homes[folder].parts), folder == item.folder))
        if nearest != item.folder or sum(homes[folder] == homes[nearest] for folder in owners) > 1:
            mend = "Unpack it and import the folder with --copy." if packed else "Let prep copy them apart: --copy"
            raise PrepError(
                f"Images of different sets lie in one folder, {escape_control(str(item.image.parent))}.", mend
            )
    return homes


def _begin(
    workspace: Workspace, homes: Mapping[str, Path], shelves: Mapping[str, DatasetFolder], items: list[DatasetItem]
) -> None:
    """Write the recipe: subjects with their folders and repeats, regularization, and the size of cropped images."""
    of: dict[str, dict[str, tuple[DatasetFolder, str]]] = {"train": {}, "val": {}}
    regularization = []
    for folder, shelf in shelves.items():
        home = os.path.relpath(homes[folder])  # which the recipe makes relative to the workspace
        if shelf.role == "reg":
            regularization.append((shelf.class_name, home))
        elif shelf.token in of[shelf.role]:
            raise PrepError(
                f"Two folders are of the subject {escape_control(shelf.text)!r}, with repeats of their own.",
                "Put their images into one, or give one another name.",
            )
        else:
            of[shelf.role][shelf.token] = (shelf, home)
    if lost := of["val"].keys() - of["train"].keys():
        raise PrepError(f"{escape_control(min(lost))!r} has validation images and none to train on.", "Leave them out.")
    subjects = tuple((shelf.token, shelf.class_name, home) for shelf, home in of["train"].values())
    beginning = InitOptions(
        subjects,
        tuple(regularization),
        {"crop": _crop(items), "build": {"title": _title(shelves)}},
        {token: shelf.repeats for token, (shelf, _) in of["train"].items()},
        {token: home for token, (_, home) in of["val"].items()},
    )
    init(workspace.root, beginning, tables())


def _title(shelves: Mapping[str, DatasetFolder]) -> str:
    """NAME of train_NAME in the set: the folders that prep builds are called the same."""
    parent = next((folder for folder, shelf in shelves.items() if shelf.role == "train"), "").rpartition("/")[0]
    return parent.rpartition("/")[2].removeprefix("train_")


def _crop(items: Sequence[DatasetItem]) -> dict[str, Any]:
    """Crop's options under which images that were cropped already stay as they are; none where they were not."""
    few = items[:: math.ceil(len(items) / _LOOK_AT)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sizes = {size for size in pool.map(lambda item: _size(item.image), few) if size}
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
    except (Unreadable, OSError):
        return None


def _with_captions(
    items: list[DatasetItem], shelves: Mapping[str, DatasetFolder], done: ImportResult, report: ProgressFn
) -> ImportResult:
    """Every caption as an edit of its record, so that no tagger changes it; and what did not come along."""
    workspace = done.workspace
    at = {workspace.relative(item.image): item for item in items}
    found = scan(workspace, Recipe.read(workspace.recipe, ORDER), report)
    mine = [(record, at[record.source]) for record in found.records if record.source in at]
    kept = [(record, item) for record, item in mine if record.kept]
    edits = [(record.id, Edit("set", item.caption)) for record, item in kept if item.caption is not None]
    Journal.read(workspace).append_each(workspace, edits)
    images = Counter[tuple[str, str, str]]()
    for _, item in kept:
        shelf = shelves[item.folder]
        images[shelf.role, shelf.token, shelf.class_name] += 1
    notes = tuple(_notes(mine, len(found.records) - len(mine)))
    return replace(done, images=images, captions=len(edits), notes=notes)


def _notes(mine: list[tuple[Record, DatasetItem]], others: int) -> Iterator[str]:
    for reason, count in Counter(record.drop.reason for record, _ in mine if record.drop).items():
        yield f"{_many(count, 'image')} left out: {reason}"
    if bare := sum(item.caption is None for record, item in mine if record.kept):
        yield f"{_many(bare, 'image')} without a caption: prep tag and prep merge write one"
    if lines := sum(len((item.caption or "").splitlines()) > 1 for record, item in mine if record.kept):
        yield f"{_many(lines, 'caption')} of several lines, kept as written"
    if others:
        yield f"{_many(others, 'more image')} in the folders, which the set does not name"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
