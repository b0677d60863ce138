"""A disk cache of the latents of the dataset's images."""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.adaptive_batches import AdaptiveBatcher
from pipeline.errors import PrepError
from pipeline.imaging.decode import UnreadableImage
from pipeline.imaging.image_file import render
from training.batch import TrainingImage
from training.export.tensor_file import write_tensors

if TYPE_CHECKING:
    import torch

    from pipeline.stage import ProgressFn
    from pipeline.workspace import Workspace
    from training.models.family import Family, Moments

log = logging.getLogger(__name__)

_LAYOUT = 2  # raise it when entries change without changing their names
_IN_MEMORY = 2048  # latents: 0.26 GB at 512 x 512 pixels
_READ_AHEAD = 8  # images read while others are encoded
# Pixels of a batch for the VAE. On the CPU one image at a time is as fast, and its entry does not
# depend on which other images were missing.
_BATCH_PIXELS = {"cuda": 4 * 1024 * 1024, "cpu": 1}
_MAX_BATCH = 1024  # images of a batch


@dataclass(frozen=True, slots=True)
class LatentKey:
    """An image as it is trained on: as it is, or flipped."""

    sample: TrainingImage
    flipped: bool = False


@dataclass(frozen=True, slots=True)
class LatentCache:
    """A folder of latent distributions, each named by a hash of the image's pixels, the flip and the VAE.

    Mean and standard deviation are stored; every use of an image samples from them again.
    """

    workspace: Workspace
    family: Family
    vae: str  # hash of the VAE
    factor: int = 8  # pixels per latent, each way

    def prepare(self, keys: list[LatentKey], load_vae: Callable[[], Any], report: ProgressFn) -> None:
        """Encode the images that are missing or damaged; the VAE is loaded only if there are any."""
        distinct = {self.path(key): key for key in keys}
        missing = {path: key for path, key in distinct.items() if self.read(key) is None}
        if not missing:
            return
        if damaged := sum(1 for path in missing if path.exists()):
            log.warning("Recomputing %d damaged entries of the latent cache", damaged)
        vae = load_vae()
        done, batcher = 0, AdaptiveBatcher(_MAX_BATCH, "Encoding images")
        for batch in self._batches(list(missing.values()), _BATCH_PIXELS.get(vae.device.type, 1)):
            self._write(batch, vae, batcher)
            done += len(batch)
            report(done, len(missing))

    def reader(self) -> Callable[[LatentKey], Moments]:
        """A function from a key to mean and deviation, (1, C, h, w) float32, that keeps the latest in memory."""

        @functools.lru_cache(_IN_MEMORY)
        def read(key: LatentKey) -> Moments:
            moments = self.read(key)
            if moments is None:
                raise PrepError(f"{self.path(key)} was damaged during training.", "Run the command again.")
            return moments

        return read

    def path(self, key: LatentKey) -> Path:
        text = f"{_LAYOUT} {key.sample.pixel_sha256} {'flipped ' if key.flipped else ''}{self.vae}"
        name = hashlib.sha256(text.encode()).hexdigest()
        return self.workspace.cache / "latents" / name[:2] / f"{name}.safetensors"

    def read(self, key: LatentKey) -> Moments | None:
        """Mean and deviation; None if there is no complete, finite entry of the right shape."""
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors = load_file(self.path(key))
        except (OSError, SafetensorError):
            return None
        if tensors.keys() != {"mean", "std"}:
            return None
        mean, std = tensors["mean"], tensors["std"]
        shape = (key.sample.height // self.factor, key.sample.width // self.factor)
        if mean.shape != std.shape or mean.dim() != 4 or mean.shape[2:] != shape:
            return None
        return (mean, std) if bool(torch.isfinite(mean + std).all()) else None

    def _batches(self, keys: list[LatentKey], pixels: int) -> Iterator[list[tuple[LatentKey, torch.Tensor]]]:
        """Batches of keys with their pixels, of one size each; threads read ahead of the VAE."""
        keys.sort(key=lambda key: (key.sample.width, key.sample.height))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for (width, height), group in itertools.groupby(keys, lambda k: (k.sample.width, k.sample.height)):
                size = max(1, pixels // (width * height))
                waiting = list(group)
                ahead = max(_READ_AHEAD, 2 * size)
                for at in range(0, len(waiting), ahead):
                    some = waiting[at : at + ahead]
                    pairs = zip(some, pool.map(self._pixels, some), strict=True)
                    while batch := list(itertools.islice(pairs, size)):
                        yield batch

    def _pixels(self, key: LatentKey) -> torch.Tensor:
        pixels = read_pixels(key.sample, self.workspace)
        return pixels.flip(3) if key.flipped else pixels

    def _write(self, batch: list[tuple[LatentKey, torch.Tensor]], vae: Any, batcher: AdaptiveBatcher) -> None:
        import torch

        pixels = torch.cat([pixels for _, pixels in batch])

        def encode(rows: Sequence[int]) -> list[Moments]:
            mean, std = self.family.encode_images(vae, pixels[rows[0] : rows[-1] + 1].to(vae.device))
            return list(zip(torch.split(mean.float().cpu(), 1), torch.split(std.float().cpu(), 1), strict=True))

        with torch.no_grad():
            moments = batcher.run(encode, range(len(batch)))
        for (key, _), (mean, std) in zip(batch, moments, strict=True):
            if not bool(torch.isfinite(mean + std).all()):
                raise PrepError(
                    f"The VAE's latent of {key.sample.name} (record {key.sample.id}) is not finite.",
                    "Drop the image with prep review, or use another VAE: --vae PATH",
                )
            write_tensors(self.path(key), {"mean": mean, "std": std}, {"record": key.sample.id, "vae": self.vae})


def read_pixels(sample: TrainingImage, workspace: Workspace) -> torch.Tensor:
    """The pixels of an image as (1, 3, H, W) float32 in -1 to 1."""
    import torch

    array = _from_images(workspace.path(sample.path)) if sample.path else _from_source(sample, workspace)
    if array.shape != (sample.height, sample.width, 3):
        raise PrepError(f"The image {sample.name} is no longer {sample.width} x {sample.height} pixels.", _AGAIN)
    return torch.from_numpy(array.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


_AGAIN = "Build the dataset again: prep build"


def _from_images(path: Path) -> Any:
    """The pixels of an image that prep wrote."""
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise PrepError(f"The image {path} is missing.", _AGAIN) from None
    except (OSError, UnidentifiedImageError) as error:
        raise PrepError(f"The image {path} cannot be read: {error}", _AGAIN) from None


def _from_source(sample: TrainingImage, workspace: Workspace) -> Any:
    """The pixels of an image in a folder given with --data: upright, in sRGB, on white, cropped with --resolution."""
    assert sample.source is not None
    path = workspace.source(sample.source.path)
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != sample.source.sha256:
            raise PrepError(f"The image {path} was changed during training.", "Run the command again.")
        return render(data, sample.source.crop)
    except (OSError, UnreadableImage) as error:
        raise PrepError(f"The image {path} cannot be read: {error}", "Repair or delete it.") from None
