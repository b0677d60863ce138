"""Generates regularization images with the base model, and records the seed and settings of each."""

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
# From a base model, requests, a workspace, a progress function and a batch size to the images, in order.
GenerateFn = Callable[[str, list[SampleRequest], Workspace, ProgressFn, int], Iterator["Image"]]
Entries = dict[str, dict[str, Any]]  # by file name: the settings that the image was generated with


@dataclass(frozen=True, kw_only=True)
class Generate(Options):
    """Generate regularization images with the base model.

    Generates as many as prep.toml asks for: [[regularization]] with class, generate and prompt. They
    are written to generated/CLASS/, with the seed and settings of each in generated.json. Existing
    images stay; an image that you deleted is not generated again.
    """

    name: ClassVar[str] = "generate"

    base: str = option("", "Base model; none: the one to train on.")
    sampler: Sampler = option("auto", "Sampler; auto takes the usual one of the base model's family.")  # noqa: RUF009
    steps: int = option(25, "Sampling steps, usually 20 to 50.", low=1, high=1000)
    guidance_scale: float = option(7.0, "Scale of classifier-free guidance, usually 5 to 9; 1 turns it off.", low=1)
    negative: str = option("", "Negative prompt.")
    size: int = option(0, "Width and height in pixels; 0: the resolution of prep crop.", low=0, high=4096)
    seed: int = option(0, "Seed of the first image; each following image has the next seed.", low=0)
    batch_size: int = option(
        1, "Images to generate at once; more is faster, but the last bits may differ.", low=1, high=64
    )


@dataclass(frozen=True, slots=True)
class GeneratedSet:
    """The generated images of one class."""

    folder: str
    new: int
    recorded: int  # all in the record, the new ones included


@dataclass(frozen=True, slots=True)
class _ClassPlan:
    """The images to generate for one class: the request of each by file name, and the model."""

    folder: Path
    requests: dict[str, SampleRequest]
    model: dict[str, str]  # base and its sha256, as recorded with each image

    def entry(self, name: str) -> dict[str, Any]:
        """What the record stores for an image."""
        return dataclasses.asdict(self.requests[name]) | self.model


def generate(
    workspace: Workspace, recipe: Recipe, options: Generate, generate_images: GenerateFn, report: ProgressFn
) -> Iterator[GeneratedSet]:
    """Generate the images that prep.toml asks for and the record lacks; each is recorded once it is on disk."""
    tables = [table for table in recipe.regularization if table.generate]
    if not tables:
        raise PrepError(
            f"{RECIPE} does not ask for generated images.",
            'Add: [[regularization]] class = "man", generate = 100, prompt = "photo of a man"',
        )
    base = options.base or build_options(Train, recipe.tables.get("train", {}), f"{RECIPE}, [train]").config.model.base
    size = options.size or build_options(Crop, recipe.tables.get("crop", {}), f"{RECIPE}, [crop]").resolution
    model = {"base": base, "base_sha256": find_base(base, workspace).sha256}
    plans = [_ClassPlan(workspace.path(table.folder), _requests(table, options, size), model) for table in tables]

    def images_of(requests: list[SampleRequest]) -> Iterator[Image]:
        return generate_images(base, requests, workspace, report, options.batch_size)

    for plan in plans:  # all classes are checked before the first image is generated
        _check_settings(plan)
    for plan in plans:
        new, recorded = _generate_missing(plan, images_of)
        yield GeneratedSet(workspace.relative(plan.folder), new, recorded)


def _requests(table: RegularizationTable, options: Generate, size: int) -> dict[str, SampleRequest]:
    """The requests of a class by file name."""
    first = SampleRequest(
        prompt=table.prompt,
        negative=options.negative,
        width=size,
        height=size,
        steps=options.steps,
        guidance_scale=options.guidance_scale,
        seed=options.seed,
        sampler=options.sampler,
    )
    return {f"{n:05d}.png": dataclasses.replace(first, seed=options.seed + n) for n in range(table.generate)}


def _check_settings(plan: _ClassPlan) -> None:
    """Raise PrepError when the folder has images that were generated with other settings."""
    for name, recorded in read_generated(plan.folder).items():
        wanted = plan.entry(name) if name in plan.requests else recorded
        if other := next((key for key in wanted if key != "base" and recorded.get(key) != wanted[key]), None):
            raise PrepError(
                f"{GENERATED}/{escape_control(plan.folder.name)}/ has images with another {other.replace('_', ' ')}: "
                f"{escape_control(str(recorded.get(other)))}.",
                "Use the same settings, or move that folder away.",
            )


def _generate_missing(plan: _ClassPlan, images_of: Callable[[list[SampleRequest]], Iterator[Image]]) -> tuple[int, int]:
    """Generate the images that are not recorded; how many those were, and how many are recorded now."""
    import numpy as np

    record = read_generated(plan.folder)
    missing = {name: request for name, request in plan.requests.items() if name not in record}
    if missing:
        for name, image in zip(missing, images_of(list(missing.values())), strict=True):
            write_atomic(plan.folder / name, encode_png(np.asarray(image.convert("RGB"))))
            record[name] = plan.entry(name)
            text = json.dumps(record, indent=1, ensure_ascii=False, sort_keys=True)
            write_atomic(plan.folder / RECORD, text.encode())
    return len(missing), len(record)


def read_generated(folder: Path) -> Entries:
    """The record of a folder's generated images; empty if there is none. PrepError for a damaged one."""
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        entries = json.loads(path.read_bytes())
    except ValueError:
        entries = None
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise PrepError(f"{path} is damaged.", "Move its folder away; prep generate makes the images again.")
    for entry in entries.values():
        if "scale" in entry:  # its name in earlier versions of prep
            entry["guidance_scale"] = entry.pop("scale")
    return entries
