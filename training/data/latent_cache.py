"""Latents of the data set's images, computed once and kept outside of it."""

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
from pipeline.imaging.decode import Unreadable
from pipeline.imaging.image_file import render
from training.batch import TrainingImage
from training.export.tensor_file import write_tensors

if TYPE_CHECKING:
    import torch

    from pipeline.stage import ProgressFn
    from pipeline.workspace import Workspace
    from training.models.family import Family, Moments

log = logging.getLogger(__name__)

_LAYOUT = 2  # raise it when entries of the same name would hold something else
_IN_MEMORY = 2048  # latents: 0.26 GB at 512 x 512 pixels
_AHEAD = 8  # images read while others are encoded
# Pixels of a batch that the VAE encodes at once. On the CPU one image at a time is as fast, and its
# entry does not depend on which images were missing beside it.
_AT_ONCE = {"cuda": 4 * 1024 * 1024, "cpu": 1}
_MOST = 1024  # images of a batch


@dataclass(frozen=True, slots=True)
class LatentKey:
    """An image as a draw shows it: as it is, or mirrored."""

    sample: TrainingImage
    flipped: bool = False


@dataclass(frozen=True, slots=True)
class LatentCache:
    """A folder of latents' distributions, each named after the image's pixels, the view and the VAE.

    Mean and deviation are kept, not one sample of them: every draw samples anew.
    """

    workspace: Workspace
    family: Family
    vae: str  # hash of the VAE
    factor: int = 8  # pixels per latent, each way

    def prepare(self, keys: list[LatentKey], load_vae: Callable[[], Any], report: ProgressFn) -> None:
        """Compute what is missing or damaged. The VAE is loaded only if something is."""
        distinct = {self.path(view): view for view in keys}
        missing = {path: view for path, view in distinct.items() if self.read(view) is None}
        if not missing:
            return
        if damaged := sum(1 for path in missing if path.exists()):
            log.warning("The latent cache had damaged entries, which are made again: %d", damaged)
        vae = load_vae()
        done, portions = 0, AdaptiveBatcher(_MOST, "Encoding images")
        for batch in self._batches(list(missing.values()), _AT_ONCE.get(vae.device.type, 1)):
            self._write(batch, vae, portions)
            done += len(batch)
            report(done, len(missing))

    def reader(self) -> Callable[[LatentKey], Moments]:
        """A function from a view to mean and deviation, (1, C, h, w) float32, that remembers the latest."""

        @functools.lru_cache(_IN_MEMORY)
        def read(view: LatentKey) -> Moments:
            found = self.read(view)
            if found is None:
                raise PrepError(f"{self.path(view)} was damaged while training.", "Give the command again.")
            return found

        return read

    def path(self, key: LatentKey) -> Path:
        text = f"{_LAYOUT} {key.sample.pixel_sha256} {'flipped ' if key.flipped else ''}{self.vae}"
        name = hashlib.sha256(text.encode()).hexdigest()
        return self.workspace.cache / "latents" / name[:2] / f"{name}.safetensors"

    def read(self, key: LatentKey) -> Moments | None:
        """Mean and deviation, or None when there is no whole, finite entry of the right shape."""
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            found = load_file(self.path(key))
        except (OSError, SafetensorError):
            return None
        if found.keys() != {"mean", "std"}:
            return None
        mean, std = found["mean"], found["std"]
        shape = (key.sample.height // self.factor, key.sample.width // self.factor)
        if mean.shape != std.shape or mean.dim() != 4 or mean.shape[2:] != shape:
            return None
        return (mean, std) if bool(torch.isfinite(mean + std).all()) else None

    def _batches(self, views: list[LatentKey], pixels: int) -> Iterator[list[tuple[LatentKey, torch.Tensor]]]:
        """Views with their pixels, of one size in a batch; threads read ahead of the VAE."""
        views.sort(key=lambda view: (view.sample.width, view.sample.height))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for (width, height), group in itertools.groupby(views, lambda v: (v.sample.width, v.sample.height)):
                size = max(1, pixels // (width * height))
                waiting = list(group)
                ahead = max(_AHEAD, 2 * size)
                for at in range(0, len(waiting), ahead):
                    some = waiting[at : at + ahead]
                    read = zip(some, pool.map(self._pixels, some), strict=True)
                    while batch := list(itertools.islice(read, size)):
                        yield batch

    def _pixels(self, view: LatentKey) -> torch.Tensor:
        pixels = read_pixels(view.sample, self.workspace)
        return pixels.flip(3) if view.flipped else pixels

    def _write(self, batch: list[tuple[LatentKey, torch.Tensor]], vae: Any, portions: AdaptiveBatcher) -> None:
        import torch

        pixels = torch.cat([pixels for _, pixels in batch])

        def encode(rows: Sequence[int]) -> list[Moments]:
            mean, std = self.family.encode_images(vae, pixels[rows[0] : rows[-1] + 1].to(vae.device))
            return list(zip(torch.split(mean.float().cpu(), 1), torch.split(std.float().cpu(), 1), strict=True))

        with torch.no_grad():
            moments = portions.run(encode, range(len(batch)))
        for (view, _), (mean, std) in zip(batch, moments, strict=True):
            if not bool(torch.isfinite(mean + std).all()):
                raise PrepError(
                    f"The VAE makes no finite latent of {view.sample.name} (record {view.sample.id}).",
                    "Drop the image, or use a base model with a sound VAE: --vae",
                )
            write_tensors(self.path(view), {"mean": mean, "std": std}, {"record": view.sample.id, "vae": self.vae})


def read_pixels(sample: TrainingImage, workspace: Workspace) -> torch.Tensor:
    """A sample's image as (1, 3, H, W) float32 in -1 to 1."""
    import torch

    array = _from_images(workspace.path(sample.path)) if sample.path else _from_source(sample, workspace)
    if array.shape != (sample.height, sample.width, 3):
        raise PrepError(f"The image {sample.name} is no longer {sample.width} x {sample.height} pixels.", _AGAIN)
    return torch.from_numpy(array.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


_AGAIN = "Make it again: prep build"


def _from_images(path: Path) -> Any:
    """An image that prep wrote, as it stands."""
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
    """An image of a folder that others laid out: upright, in sRGB, on white."""
    assert sample.source is not None
    path = workspace.source(sample.source.path)
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != sample.pixel_sha256:
            raise PrepError(f"The image {path} was changed while training.", "Give the command again.")
        return render(data, sample.source.crop)
    except (OSError, Unreadable) as error:
        raise PrepError(f"The image {path} cannot be read: {error}", "Mend or remove it.") from None
