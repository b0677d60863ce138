"""prep generate: regularization images painted by the base model, with the seed of each on record."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.errors import PrepError
from pipeline.imaging.image_file import encode_png
from pipeline.options import build_options
from pipeline.recipe import GENERATED, Recipe, RegularizationTable
from pipeline.stage import Options, ProgressFn, option
from pipeline.tag_text import escape_control
from pipeline.workspace import RECIPE, Workspace, write_atomic
from stages.crop import Crop
from training.models.base_model import find_base
from training.sampling.image_generator import Sampler, SampleRequest
from training.train import Train

if TYPE_CHECKING:
    from PIL.Image import Image

RECORD = f"{GENERATED}.json"
GenerateFn = Callable[[str, list[SampleRequest], Workspace, ProgressFn, int], Iterator["Image"]]
Entries = dict[str, dict[str, Any]]  # by file name: how the image was made


@dataclass(frozen=True, kw_only=True)
class Generate(Options):
    """Generate regularization images with the base model.

    Generates as many as prep.toml asks for: [[regularization]] with class, generate and prompt. They
    are written to generated/CLASS/, with the seed and settings of each in generated.json. Existing
    images stay; an image that you deleted is not generated again.
    """

    name: ClassVar[str] = "generate"

    base: str = option("", "Base model; the one to train on if empty.")
    sampler: Sampler = option("auto", "Sampler; auto takes the usual one of the base's family.")  # noqa: RUF009
    steps: int = option(25, "Steps of the sampler.", low=1, high=1000)
    guidance_scale: float = option(7.0, "Classifier-free guidance; 1 does without.", low=1)
    negative: str = option("", "What the images shall not show.")
    size: int = option(0, "Side of the square images, in pixels; 0 is crop's resolution.", low=0, high=4096)
    seed: int = option(0, "Seed of the first image; each next has the next one.", low=0)
    batch_size: int = option(1, "Images painted at once: faster, and the last bits may differ.", low=1, high=64)


@dataclass(frozen=True, slots=True)
class GeneratedSet:
    """What came of one class."""

    folder: str
    new: int
    recorded: int  # those painted before among them


def generate(
    workspace: Workspace, recipe: Recipe, options: Generate, paint: GenerateFn, report: ProgressFn
) -> Iterator[GeneratedSet]:
    """Paint what prep.toml asks for and the record lacks; every image is on record when it is on disk."""
    wanted = [entry for entry in recipe.regularization if entry.generate]
    if not wanted:
        raise PrepError(
            f"{RECIPE} asks for no painted images.",
            'Add: [[regularization]] class = "man", generate = 100, prompt = "photo of a man"',
        )
    base = options.base or build_options(Train, recipe.tables.get("train", {}), f"{RECIPE}, [train]").config.model.base
    size = options.size or build_options(Crop, recipe.tables.get("crop", {}), f"{RECIPE}, [crop]").resolution
    made_with = {"base": base, "base_sha256": find_base(base, workspace).sha256}
    plans = [(entry, _plan(entry, options, size)) for entry in wanted]

    def at_a_time(paintings: list[SampleRequest]) -> Iterator[Image]:
        return paint(base, paintings, workspace, report, options.batch_size)

    for entry, paintings in plans:  # a contradiction in the last is said before the first is painted
        _check(workspace.path(entry.folder), paintings, made_with)
    for entry, paintings in plans:
        yield _fill(workspace, entry.folder, (paintings, made_with), at_a_time)


def _plan(entry: RegularizationTable, options: Generate, size: int) -> dict[str, SampleRequest]:
    """The images of a class by their file names."""
    first = SampleRequest(
        entry.prompt, options.negative, size, size, options.steps, options.guidance_scale, options.seed, options.sampler
    )
    return {f"{n:05d}.png": dataclasses.replace(first, seed=options.seed + n) for n in range(entry.generate)}


def _check(folder: Path, paintings: dict[str, SampleRequest], made_with: dict[str, str]) -> None:
    """Raise PrepError when the folder holds images that were made otherwise than is asked for now."""
    for name, was in read_record(folder).items():
        now = _entry(paintings[name], made_with) if name in paintings else was
        if other := next((key for key in now if key != "base" and was.get(key) != now[key]), None):
            raise PrepError(
                f"{GENERATED}/{escape_control(folder.name)}/ holds images of another {other.replace('_', ' ')}: "
                f"{escape_control(str(was.get(other)))}.",
                "Ask for the same, or move that folder away.",
            )


def _fill(
    workspace: Workspace,
    name: str,
    plan: tuple[dict[str, SampleRequest], dict[str, str]],
    paint: Callable[[list[SampleRequest]], Iterator[Image]],
) -> GeneratedSet:
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
    return GeneratedSet(name, len(lacking), len(record))


def _entry(painting: SampleRequest, made_with: dict[str, str]) -> dict[str, Any]:
    return dataclasses.asdict(painting) | made_with


def read_record(folder: Path) -> Entries:
    """How the images of a folder were made; empty if there is no record. PrepError for a damaged one."""
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        entries = json.loads(path.read_bytes())
    except ValueError as error:
        entries = str(error)
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise PrepError(f"{path} is damaged.", "Move its folder away: the images are painted anew.")
    return entries
