"""prep generate: images from prompts, each with its settings inside and a row in a table."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pipeline.commands.carried_settings import (
    carried_batch_size,
    carried_images,
    carried_settings,
    changed_settings,
    compare_networks,
)
from pipeline.commands.generated_writer import GeneratedImage, ImageWriter, lock_folder
from pipeline.errors import Interrupted, PrepError
from pipeline.models.store import models_folder
from pipeline.recipe import GENERATED
from pipeline.stage import Options, ProgressFn, group, option
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace
from training.models.base_model import find_base, with_vae
from training.models.light_imports import import_models, look_for_libraries
from training.models.local_bases import MINI_NAME, SHORT_NAMES
from training.sampling.infotext import Infotext, read_settings
from training.sampling.prompt.styles import apply_styles, find_styles, read_styles
from training.sampling.prompts import read_prompts
from training.sampling.sampling_pass import with_seeds
from training.sampling.settings import ImageSettings

if TYPE_CHECKING:
    from training.models.base_model import BaseFiles
    from training.sampling.image_generator import ImageGenerator


@dataclass(frozen=True, kw_only=True)
class GenerateModels(Options):
    """The models that images are made with."""

    name: ClassVar[str] = "generate"
    section: ClassVar[str] = "Models"

    base: str = option("", "Base model: a folder, a file, a hub id or a short name. Default: that of prep.toml.")
    vae: str = option("", "VAE in the place of the base model's own: a folder or a file.", metavar="FILE")
    lora_dir: tuple[str, ...] = option(
        [],
        "Folder of files for <lora:NAME>, besides the runs of the workspace and prep's models folder.",
        metavar="DIR",
    )
    embeddings_dir: tuple[str, ...] = option([], "Folder of embeddings that prompts name.", metavar="DIR")


@dataclass(frozen=True, kw_only=True)
class GenerateJob(Options):
    """How many images, from which prompts, and where they go."""

    name: ClassVar[str] = "generate"
    section: ClassVar[str] = "Job"

    batch_count: int = option(1, "Batches of each prompt.", low=1, high=10_000)
    batch_size: int = option(
        1, "Images to make at once; faster on a GPU, but the last bits of an image may differ.", low=1, high=256
    )
    prompts: str = option(
        "",
        "File with one prompt a line, each with its own --w, --h, --d (seed), --s (steps), --l (CFG scale), --ss "
        "(sampler) and --n (negative prompt) if needed; lines that begin with # are left out.",
        metavar="FILE",
    )
    styles: str = option("", "Styles of WebUI: a CSV file with name, prompt and negative_prompt.", metavar="FILE")
    style: tuple[str, ...] = option([], "Name of a style of --styles to add to the prompts.", metavar="NAME")
    output: str = option("", "Folder for the images. Default: generated.", metavar="DIR")
    format: Literal["png", "jpg", "webp"] = option("png", "Format of the images.")


@dataclass(frozen=True, kw_only=True)
class GenerateOptions(Options):
    """All options of prep generate."""

    name: ClassVar[str] = "generate"

    image: ImageSettings = group(ImageSettings)
    models: GenerateModels = group(GenerateModels)
    job: GenerateJob = group(GenerateJob)


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """What the user asks for."""

    prompts: tuple[str, ...]
    options: GenerateOptions
    given: Mapping[str, Any]  # the options that are not at their defaults, by name
    source: Path | None = None  # the image of --from
    recipe_base: str = ""  # the base model of prep.toml


def generate(workspace: Workspace | None, request: GenerateRequest, report: ProgressFn) -> Iterator[GeneratedImage]:
    """Make the images and yield each once it is on disk; after Ctrl-C those that are finished.

    PrepError for anything that cannot be, before a model is loaded.
    """
    home = workspace or Workspace(models_folder() / ".generate")
    carried = carried_settings(request.source) if request.source else None
    if request.source and carried:
        request = replace(request, given=carried_images(request.source, carried) | dict(request.given))
    wanted, batch_size = wanted_images(request, carried)
    base = _find_base(request, carried, home)
    look_for_libraries()
    generator = _open(base, home, request.options, wanted[0])
    copies = batch_size if carried and "batch_size" not in request.given else 1
    plans = generator.plan([one for one in wanted for _ in range(copies)])
    folder = output_folder(workspace, request.options.job.output)
    import_models()
    finished = 0
    if carried:
        used = [network for plan in plans for one in plan.passes for network in generator.networks.open(one.networks)]
        compare_networks(carried, {network.name: network.hash for network in used})
    with lock_folder(folder):
        writer = ImageWriter(folder, request.options.job.format, base, generator, batch_size)
        try:
            for number, image in enumerate(generator.generate(plans, batch_size, report)):
                if number % copies == 0:
                    yield writer.write(plans[number], image)
                    finished += 1
        except KeyboardInterrupt:
            raise Interrupted(
                "Stopped.", f"{finished} of {len(wanted)} images are finished, in {folder}.", signal.SIGINT
            ) from None
        finally:
            writer.table.save()


def wanted_images(request: GenerateRequest, carried: Infotext | None) -> tuple[list[ImageSettings], int]:
    """The settings of every image in order, with seeds; and how many of them are made at once."""
    options = request.options
    each = options.job.batch_count * options.job.batch_size
    if carried:
        settings = changed_settings(read_settings(carried), request.given)
        prompts = [replace(settings, prompt=prompt) for prompt in request.prompts or (settings.prompt,)]
        together = carried_batch_size(carried) if "batch_size" not in request.given else 0
    else:
        prompts = [replace(options.image, prompt=prompt) for prompt in request.prompts]
        together = 0
    if options.job.prompts:
        prompts += read_prompts(Path(options.job.prompts).expanduser(), options.image, seed_step=0)
    if not prompts:
        raise PrepError("There is no prompt.", 'Give one: prep generate "photo of a cat"; or --prompts FILE.')
    _refuse_without_effect(request.given, prompts)
    styled = _with_styles(prompts, options.job)
    return [one for settings in styled for one in with_seeds(settings, each)], together or options.job.batch_size


def _refuse_without_effect(given: Mapping[str, Any], wanted: list[ImageSettings]) -> None:
    """PrepError for options of a pass that no image has."""
    hires = [name for name in given if name.startswith("hires_") and name not in ("hires_scale", "hires_size")]
    if hires and not any(one.hires.active for one in wanted):
        raise PrepError(f"--{hires[0].replace('_', '-')} has no effect without hires fix.", "Add: --hires-scale 2")
    initial = [name for name in given if name in ("denoise", "resize_mode")]
    if initial and not any(one.img2img.init_image for one in wanted):
        wrong = f"--{initial[0].replace('_', '-')} has no effect without an image to begin with."
        raise PrepError(wrong, "Add: --init-image FILE")


def output_folder(workspace: Workspace | None, given: str) -> Path:
    """The folder for the images: the given one, or `generated` in the workspace or else the current folder."""
    if given:
        folder = Path(given).expanduser().absolute()
        if folder.exists() and not folder.is_dir():
            raise PrepError(f"{folder} is a file.", "Name a folder: --output DIR")
        return folder
    return (workspace.root if workspace else Path.cwd()) / GENERATED


def _with_styles(prompts: list[ImageSettings], job: GenerateJob) -> list[ImageSettings]:
    if not job.style:
        if job.styles:
            names = ", ".join(list(read_styles(Path(job.styles).expanduser()))[:9])
            raise PrepError("No style is named.", f"Name one with --style: {names}.")
        return prompts
    if not job.styles:
        raise PrepError("--style names a style, but no file of styles is given.", "Give it: --styles styles.csv")
    chosen = find_styles(list(job.style), read_styles(Path(job.styles).expanduser()))
    return [
        replace(
            one,
            prompt=apply_styles(one.prompt, [style.prompt for style in chosen]),
            negative=apply_styles(one.negative, [style.negative for style in chosen]),
        )
        for one in prompts
    ]


def _find_base(request: GenerateRequest, carried: Infotext | None, home: Workspace) -> BaseFiles:
    """The base model with its VAE; PrepError if it is not the one that the image of --from was made with."""
    models = request.options.models
    made_with = (carried.pairs.get("Model") if carried else "") or ""
    named = models.base or request.recipe_base or (made_with if made_with in (MINI_NAME, *SHORT_NAMES) else "")
    if carried and made_with and not named:
        raise PrepError(
            f"The image was made with the base model {escape_control(made_with)!r}, and none is named here.",
            "Name it, or another one: --base MODEL",
        )
    base = with_vae(find_base(named, home), models.vae, home)
    recorded = (carried.pairs.get("Model hash") if carried else "") or ""
    if recorded and not base.sha256.startswith(recorded.lower()) and not models.base:
        model = escape_control(carried.pairs.get("Model", "another model")) if carried else ""
        raise PrepError(
            f"The image was made with {model} ({escape_control(recorded)}), the base model here is {base.name} "
            f"({base.sha256[:10]}).",
            "Name the one to use: --base MODEL",
        )
    return base


def _open(base: BaseFiles, home: Workspace, options: GenerateOptions, first: ImageSettings) -> ImageGenerator:
    from training.sampling.open_generator import NetworkFolders, open_generator

    loras, embeddings = (
        [Path(folder).expanduser() for folder in given]
        for given in (options.models.lora_dir, options.models.embeddings_dir)
    )
    return open_generator(base, home, first.sampling.precision, NetworkFolders(loras, embeddings))
