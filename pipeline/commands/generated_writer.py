"""Writes generated images: files with numbers, each with its settings inside, and their rows."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.generated_table import GeneratedTable, file_row, model_columns
from pipeline.errors import PrepError
from pipeline.workspace import write_atomic
from training.sampling.image_text import ImageFormat, encode_image
from training.sampling.infotext import UsedModels, write_infotext
from training.sampling.network_files import network_hash

if TYPE_CHECKING:
    from PIL.Image import Image

    from training.models.base_model import BaseFiles
    from training.sampling.image_generator import ImageGenerator
    from training.sampling.image_plan import ImagePlan
    from training.sampling.settings import ImageSettings

_NUMBER = re.compile(r"(\d{5,})(?:-|\.)")


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    """An image on disk, and how it was made."""

    path: Path
    settings: ImageSettings
    size: tuple[int, int]


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
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


class ImageWriter:
    """Writes images with numbers after those that are there, and their rows."""

    def __init__(
        self, folder: Path, kind: ImageFormat, base: BaseFiles, generator: ImageGenerator, batch_size: int
    ) -> None:
        self.folder, self.kind, self.base, self.batch_size = folder, kind, base, batch_size
        self.generator = generator
        self.table = GeneratedTable.open(folder)
        taken = [int(found[1]) for path in folder.iterdir() if (found := _NUMBER.match(path.name))]
        self.next = max(taken, default=0) + 1

    def write(self, plan: ImagePlan, image: Image) -> GeneratedImage:
        settings = plan.settings
        vae = self.base.vae_path
        used = UsedModels(
            model=Path(self.base.name).stem,
            model_hash=self.base.sha256,
            vae=vae.stem if vae else "",
            vae_hash=self.base.vae if vae else "",
            loras=self._networks(plan),
            embeddings=self._embeddings(settings),
            controls=tuple(control.infotext() for control in self.generator.controls[settings.control]),
            version=importlib.metadata.version("prep-diffusion"),
            batch_size=self.batch_size,
        )
        path = self.folder / f"{self.next:05d}-{settings.noise.seed}.{self.kind}"
        data = encode_image(image, write_infotext(settings, used), self.kind)
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
