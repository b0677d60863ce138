"""prep generate: regularization pictures painted by the base model, with the seed of each on record."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.errors import PrepError
from pipeline.imaging.image_file import encode_png
from pipeline.options import build
from pipeline.recipe import GENERATED, Recipe, Regularization
from pipeline.stage import Options, Report, opt
from pipeline.tag_text import printable
from pipeline.workspace import RECIPE, Workspace, write_atomic
from stages.crop import Crop
from training.models.base_model import find_base
from training.sampling.pipeline import Painting, Sampler
from training.train import Train

if TYPE_CHECKING:
    from PIL.Image import Image

RECORD = f"{GENERATED}.json"
Paint = Callable[[str, list[Painting], Workspace, Report, int], Iterator["Image"]]
Entries = dict[str, dict[str, Any]]  # by file name: how the picture was made


@dataclass(frozen=True, kw_only=True)
class Generate(Options):
    """Paint regularization pictures with the base model.

    As many as prep.toml asks for: [[regularization]] with class, generate and prompt. They lie in
    generated/CLASS/, with the seed and settings of each in generated.json. What is there already
    stays; a picture that you deleted is not painted again.
    """

    name: ClassVar[str] = "generate"

    base: str = opt("", "Base model; the one to train on if empty.")
    sampler: Sampler = opt("auto", "Sampler; auto takes the usual one of the base's family.")  # noqa: RUF009
    steps: int = opt(25, "Steps of the sampler.", low=1, high=1000)
    scale: float = opt(7.0, "Classifier-free guidance; 1 does without.", low=1)
    negative: str = opt("", "What the pictures shall not show.")
    size: int = opt(0, "Side of the square pictures, in pixels; 0 is crop's resolution.", low=0, high=4096)
    seed: int = opt(0, "Seed of the first picture; each next has the next one.", low=0)
    at_once: int = opt(1, "Pictures painted at once: faster, and the last bits may differ.", low=1, high=64)


@dataclass(frozen=True, slots=True)
class Painted:
    """What came of one class."""

    folder: str
    new: int
    recorded: int  # those painted before among them


def generate(
    workspace: Workspace, recipe: Recipe, options: Generate, paint: Paint, report: Report
) -> Iterator[Painted]:
    """Paint what prep.toml asks for and the record lacks; every picture is on record when it is on disk."""
    wanted = [entry for entry in recipe.regularization if entry.generate]
    if not wanted:
        raise PrepError(
            f"{RECIPE} asks for no painted pictures.",
            'Add: [[regularization]] class = "man", generate = 100, prompt = "photo of a man"',
        )
    base = options.base or build(Train, recipe.tables.get("train", {}), f"{RECIPE}, [train]").base
    size = options.size or build(Crop, recipe.tables.get("crop", {}), f"{RECIPE}, [crop]").resolution
    made_with = {"base": base, "base_sha256": find_base(base, workspace).sha256}
    plans = [(entry, _plan(entry, options, size)) for entry in wanted]

    def at_a_time(paintings: list[Painting]) -> Iterator[Image]:
        return paint(base, paintings, workspace, report, options.at_once)

    for entry, paintings in plans:  # a contradiction in the last is said before the first is painted
        _check(workspace.path(entry.folder), paintings, made_with)
    for entry, paintings in plans:
        yield _fill(workspace, entry.folder, (paintings, made_with), at_a_time)


def _plan(entry: Regularization, options: Generate, size: int) -> dict[str, Painting]:
    """The pictures of a class by their file names."""
    first = Painting(
        entry.prompt, options.negative, size, size, options.steps, options.scale, options.seed, options.sampler
    )
    return {f"{n:05d}.png": dataclasses.replace(first, seed=options.seed + n) for n in range(entry.generate)}


def _check(folder: Path, paintings: dict[str, Painting], made_with: dict[str, str]) -> None:
    """Raise PrepError when the folder holds pictures that were made otherwise than is asked for now."""
    for name, was in read_record(folder).items():
        now = _entry(paintings[name], made_with) if name in paintings else was
        if other := next((key for key in now if key != "base" and was.get(key) != now[key]), None):
            raise PrepError(
                f"{GENERATED}/{printable(folder.name)}/ holds pictures of another {other.replace('_', ' ')}: "
                f"{printable(str(was.get(other)))}.",
                "Ask for the same, or move that folder away.",
            )


def _fill(
    workspace: Workspace,
    name: str,
    plan: tuple[dict[str, Painting], dict[str, str]],
    paint: Callable[[list[Painting]], Iterator[Image]],
) -> Painted:
    import numpy as np

    paintings, made_with = plan
    folder = workspace.path(name)
    record = read_record(folder)
    lacking = {name: painting for name, painting in paintings.items() if name not in record}
    if lacking:
        images = paint(list(lacking.values()))
        for (file, painting), image in zip(lacking.items(), images, strict=True):
            write_atomic(folder / file, encode_png(np.asarray(image.convert("RGB"))))
            record[file] = _entry(painting, made_with)
            write_atomic(folder / RECORD, json.dumps(record, indent=1, ensure_ascii=False, sort_keys=True).encode())
    return Painted(name, len(lacking), len(record))


def _entry(painting: Painting, made_with: dict[str, str]) -> dict[str, Any]:
    return dataclasses.asdict(painting) | made_with


def read_record(folder: Path) -> Entries:
    """How the pictures of a folder were made; empty if there is no record. PrepError for a damaged one."""
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        entries = json.loads(path.read_bytes())
    except ValueError as error:
        entries = str(error)
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise PrepError(f"{path} is damaged.", "Move its folder away: the pictures are painted anew.")
    return entries
