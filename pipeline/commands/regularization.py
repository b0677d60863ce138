"""prep generate --regularization: images of a class by the base model alone, with the settings of each on record."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from pipeline.imaging.image_file import encode_png
from pipeline.options import build_options
from pipeline.recipe import GENERATED, Recipe, RegularizationTable
from pipeline.stage import ProgressFn
from pipeline.tag_text import escape_control
from pipeline.workspace import RECIPE, Workspace, write_atomic
from stages.crop import Crop
from training.models.base_model import find_base
from training.sampling.settings import ImageSettings
from training.train import Train

if TYPE_CHECKING:
    from PIL.Image import Image

    from pipeline.commands.generate import GenerateOptions

RECORD = f"{GENERATED}.json"
# From a base model, settings, a workspace, a progress function and a batch size to the images, in order.
GenerateFn = Callable[[str, list[ImageSettings], Workspace, ProgressFn, int], Iterator["Image"]]
Entries = dict[str, dict[str, Any]]  # by file name: the settings that the image was generated with


@dataclass(frozen=True, slots=True)
class GeneratedSet:
    """The generated images of one class."""

    folder: str
    new: int
    recorded: int  # all in the record, the new ones included


@dataclass(frozen=True, slots=True)
class _ClassPlan:
    """The images to generate for one class: the settings of each by file name, and the model."""

    folder: Path
    requests: dict[str, ImageSettings]
    model: dict[str, str]  # base and its sha256, as recorded with each image

    def entry(self, name: str) -> dict[str, Any]:
        """What the record stores for an image."""
        settings = self.requests[name].everything() | self.model
        return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}


def recipe_base(recipe: Recipe) -> str:
    """The base model that prep.toml trains on; empty if it names none."""
    return build_options(Train, recipe.tables.get("train", {}), f"{RECIPE}, [train]").config.model.base


def generate_regularization(
    workspace: Workspace, recipe: Recipe, options: GenerateOptions, generate_images: GenerateFn, report: ProgressFn
) -> Iterator[GeneratedSet]:
    """Generate the images that prep.toml asks for and the record lacks; each is recorded once it is on disk."""
    tables = [table for table in recipe.regularization if table.generate]
    if not tables:
        raise PrepError(
            f"{RECIPE} does not ask for generated images.",
            'Add:\n[[regularization]]\nclass = "man"\ngenerate = 100\nprompt = "photo of a man"',
        )
    base = options.models.base or recipe_base(recipe)
    model = {"base": base, "base_sha256": find_base(base, workspace).sha256}
    side = build_options(Crop, recipe.tables.get("crop", {}), f"{RECIPE}, [crop]").resolution
    image = options.image
    noise = dataclasses.replace(image.noise, seed=max(image.noise.seed, 0))
    first = dataclasses.replace(image, size=image.size or f"{side}x{side}", noise=noise)
    plans = [_ClassPlan(workspace.path(table.folder), _requests(table, first), model) for table in tables]

    def images_of(requests: list[ImageSettings]) -> Iterator[Image]:
        return generate_images(base, requests, workspace, report, options.job.batch_size)

    for plan in plans:  # all classes are checked before the first image is generated
        _check_settings(plan)
    for plan in plans:
        new, recorded = _generate_missing(plan, images_of)
        yield GeneratedSet(workspace.relative(plan.folder), new, recorded)


def _requests(table: RegularizationTable, first: ImageSettings) -> dict[str, ImageSettings]:
    """The settings of a class's images by file name, each with the next seed."""
    prompted = dataclasses.replace(first, prompt=table.prompt)
    return {f"{number:05d}.png": prompted.later(number) for number in range(table.generate)}


def _check_settings(plan: _ClassPlan) -> None:
    """Raise PrepError when the folder has images that were generated with other settings."""
    for name, recorded in read_generated(plan.folder).items():
        wanted = plan.entry(name) if name in plan.requests else {}
        for key in wanted.keys() & recorded.keys() - {"base"}:
            if recorded[key] != wanted[key]:
                raise PrepError(
                    f"{GENERATED}/{escape_control(plan.folder.name)}/ has images with another "
                    f"{key.replace('_', ' ')}: {escape_control(str(recorded[key]))}.",
                    "Use the same settings, or move that folder away.",
                )


def _generate_missing(plan: _ClassPlan, images_of: Callable[[list[ImageSettings]], Iterator[Image]]) -> tuple[int, int]:
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
        raise PrepError(
            f"{path} is damaged.", "Move its folder away; prep generate --regularization makes the images again."
        )
    return {name: _present_names(entry) for name, entry in entries.items()}


def _present_names(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry with the present names of its settings; of the sampler, whose names have changed, only the usual one."""
    found = dict(entry)
    for earlier in ("scale", "guidance_scale"):
        if earlier in found:
            found["cfg_scale"] = found.pop(earlier)
    if "width" in found and "height" in found:
        found["size"] = f"{found.pop('width')}x{found.pop('height')}"
    if found.get("sampler") == "auto":
        found["sampler"] = ""
    return found


def generate_images(
    base: str, requests: list[ImageSettings], workspace: Workspace, report: ProgressFn, batch_size: int
) -> Iterator[Image]:
    """Images of a base model, in the order of the requests, which are checked before the model is loaded."""
    from training.sampling.open_generator import open_generator

    generator = open_generator(find_base(base, workspace), workspace, requests[0].sampling.precision)
    return generator.generate(generator.plan(requests), batch_size, report)
