"""prep generate: images from prompts, each with its settings inside and a row in a table."""

from __future__ import annotations

import importlib.metadata
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pipeline.commands.generated_table import GeneratedTable, file_row, model_columns
from pipeline.errors import Interrupted, PrepError
from pipeline.models.store import models_folder
from pipeline.recipe import GENERATED
from pipeline.stage import Options, ProgressFn, group, option
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace, write_atomic
from training.models.base_model import find_base, with_vae
from training.models.light_imports import import_models
from training.sampling.image_text import encode_image, read_text
from training.sampling.infotext import Infotext, UsedModels, read_infotext, read_settings, write_infotext
from training.sampling.network_files import network_hash
from training.sampling.prompt.styles import apply_styles, find_styles, read_styles
from training.sampling.prompts import read_prompts
from training.sampling.sampling_pass import with_seeds
from training.sampling.settings import ImageSettings

if TYPE_CHECKING:
    from PIL.Image import Image

    from training.models.base_model import BaseFiles
    from training.sampling.image_generator import ImageGenerator
    from training.sampling.image_plan import ImagePlan

_NUMBER = re.compile(r"(\d{5,})(?:-|\.)")


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
class GeneratedImage:
    """An image on disk, and how it was made."""

    path: Path
    settings: ImageSettings
    size: tuple[int, int]


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
    carried = read_infotext(_carried_text(request.source)) if request.source else None
    wanted, batch_size = wanted_images(request, carried)
    base = _find_base(request, carried, home)
    generator = _open(base, home, request.options, wanted[0])
    copies = batch_size if carried and "batch_size" not in request.given else 1
    plans = generator.plan([one for one in wanted for _ in range(copies)])
    folder = output_folder(workspace, request.options.job.output)
    import_models()
    finished = 0
    with _lock(folder):
        writer = _Writer(folder, request.options, base, generator, batch_size)
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
        settings = _changed(read_settings(carried), request.given)
        prompts = [replace(settings, prompt=prompt) for prompt in request.prompts or (settings.prompt,)]
        together = int(carried.pairs.get("Batch size") or 1) if "batch_size" not in request.given else 0
    else:
        prompts = [replace(options.image, prompt=prompt) for prompt in request.prompts]
        together = 0
    if options.job.prompts:
        prompts += read_prompts(Path(options.job.prompts).expanduser(), options.image, seed_step=0)
    if not prompts:
        raise PrepError("There is no prompt.", 'Give one: prep generate "photo of a cat"; or --prompts FILE.')
    styled = _with_styles(prompts, options.job)
    return [one for settings in styled for one in with_seeds(settings, each)], together or options.job.batch_size


def output_folder(workspace: Workspace | None, given: str) -> Path:
    """The folder for the images: the given one, or `generated` in the workspace or else the current folder."""
    if given:
        folder = Path(given).expanduser().absolute()
        if folder.exists() and not folder.is_dir():
            raise PrepError(f"{folder} is a file.", "Name a folder: --output DIR")
        return folder
    return (workspace.root if workspace else Path.cwd()) / GENERATED


def _carried_text(source: Path) -> str:
    if not source.is_file():
        raise PrepError(f"There is no image {source}.", "Name an image that prep or WebUI has made.")
    text = read_text(source)
    if not read_infotext(text).pairs:
        raise PrepError(
            f"{escape_control(str(source))} carries no settings.",
            "Only images that were not edited or compressed since they were made do; give the settings as options.",
        )
    return text


def _changed(settings: ImageSettings, given: Mapping[str, Any]) -> ImageSettings:
    """The settings of an image, but for the options that the user gives."""
    own = {option.name for option in ImageSettings.options()}
    values = {name: value for name, value in given.items() if name in own}
    if "hires_scale" in values:
        values.setdefault("hires_size", "")
    elif "hires_size" in values:
        values.setdefault("hires_scale", 0.0)
    return settings.with_values(values)


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
    base = with_vae(find_base(models.base or request.recipe_base, home), models.vae, home)
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


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Let one command at a time write to a folder."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise PrepError(f"Another prep generate writes to {folder}.", "Give another folder: --output DIR") from None
    try:
        yield
    finally:
        lock.release()


class _Writer:
    """Writes images with numbers after those that are there, and their rows."""

    def __init__(
        self, folder: Path, options: GenerateOptions, base: BaseFiles, generator: ImageGenerator, batch_size: int
    ) -> None:
        self.folder, self.options, self.base, self.batch_size = folder, options, base, batch_size
        self.generator = generator
        self.table = GeneratedTable.open(folder)
        taken = [int(found[1]) for path in folder.iterdir() if (found := _NUMBER.match(path.name))]
        self.next = max(taken, default=0) + 1

    def write(self, plan: ImagePlan, image: Image) -> GeneratedImage:
        settings, kind = plan.settings, self.options.job.format
        vae = self.options.models.vae
        used = UsedModels(
            model=Path(self.base.name).stem,
            model_hash=self.base.sha256,
            vae=Path(vae).stem if vae else "",
            vae_hash=self.base.vae if vae else "",
            loras=self._networks(plan),
            embeddings=self._embeddings(settings),
            version=importlib.metadata.version("prep-diffusion"),
            batch_size=self.batch_size,
        )
        path = self.folder / f"{self.next:05d}-{settings.noise.seed}.{kind}"
        data = encode_image(image, write_infotext(settings, used), kind)
        write_atomic(path, data)
        self.table.add(file_row(path.name, data, image.size, settings, model_columns(self.base, used)))
        self.next += 1
        return GeneratedImage(path, settings, image.size)

    def _networks(self, plan: ImagePlan) -> tuple[tuple[str, str], ...]:
        """The networks of an image: names and hashes."""
        found = [network for one in plan.passes for network in self.generator.networks.open(one.networks)]
        return tuple(dict.fromkeys((network.name, network.hash) for network in found))

    def _embeddings(self, settings: ImageSettings) -> tuple[tuple[str, str], ...]:
        """The embeddings that the prompts of an image name."""
        library = self.generator.embeddings
        hires = settings.hires
        texts = (settings.prompt, settings.negative, hires.hires_prompt, hires.hires_negative)
        text = "\n".join(texts).casefold()
        paths = [path for path in library.used if path.stem.casefold() in text] if library else []
        return tuple((path.stem, network_hash(path)) for path in paths)
