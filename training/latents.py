"""Latents of the data set's pictures, computed once and kept outside of it."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from training.export import write_tensors
from training.samples import Sample

if TYPE_CHECKING:
    import torch

    from pipeline.stage import Report
    from pipeline.workspace import Workspace
    from training.families.family import Family

_LAYOUT = 1  # raise it when entries of the same name would hold something else
_IN_MEMORY = 2048  # latents: 0.26 GB at 512 x 512 pixels


@dataclass(frozen=True, slots=True)
class Latents:
    """A folder of latents' distributions, each named after the picture's pixels and the VAE.

    Mean and deviation are kept, not one sample of them: every draw samples anew.
    """

    workspace: Workspace
    family: Family
    vae: str  # hash of the VAE

    def prepare(self, samples: list[Sample], load_vae: Callable[[], Any], report: Report) -> None:
        """Compute what is missing or damaged. The VAE is loaded only if something is."""
        distinct = {sample.pixels: sample for sample in samples}
        missing = [sample for sample in distinct.values() if self.read(sample) is None]
        if not missing:
            return
        vae = load_vae()
        for done, sample in enumerate(missing, 1):
            self._write(sample, vae)
            report(done, len(missing))

    def reader(self) -> Callable[[Sample], tuple[torch.Tensor, torch.Tensor]]:
        """A function from a sample to mean and deviation, (1, C, h, w) float32, that remembers the latest."""

        @functools.lru_cache(_IN_MEMORY)
        def read(sample: Sample) -> tuple[torch.Tensor, torch.Tensor]:
            found = self.read(sample)
            if found is None:
                raise PrepError(f"{self.path(sample)} was damaged while training.", "Give the command again.")
            return found

        return read

    def path(self, sample: Sample) -> Path:
        key = hashlib.sha256(f"{_LAYOUT} {sample.pixels} {self.vae}".encode()).hexdigest()
        return self.workspace.cache / "latents" / key[:2] / f"{key}.safetensors"

    def read(self, sample: Sample) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Mean and deviation, or None when there is no whole, finite entry of the right shape."""
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            found = load_file(self.path(sample))
        except (OSError, SafetensorError):
            return None
        if found.keys() != {"mean", "std"}:
            return None
        mean, std = found["mean"], found["std"]
        shape = (sample.height // self.family.factor, sample.width // self.family.factor)
        if mean.shape != std.shape or mean.dim() != 4 or mean.shape[2:] != shape:
            return None
        return (mean, std) if bool(torch.isfinite(mean + std).all()) else None

    def _write(self, sample: Sample, vae: Any) -> None:
        import torch

        pixels = read_pixels(self.workspace.path(sample.path), (sample.width, sample.height))
        with torch.no_grad():
            mean, std = self.family.encode_pictures(vae, pixels.to(vae.device))
        if not bool(torch.isfinite(mean + std).all()):
            raise PrepError(
                f"The VAE makes no finite latent of {sample.path} (record {sample.id}).",
                "Drop the picture, or use a base model with a sound VAE.",
            )
        write_tensors(self.path(sample), {"mean": mean, "std": std}, {"record": sample.id, "vae": self.vae})


def read_pixels(path: Path, size: tuple[int, int]) -> torch.Tensor:
    """A picture of `size` (width, height) as (1, 3, H, W) float32 in -1 to 1."""
    import numpy as np
    import torch
    from PIL import Image, UnidentifiedImageError

    again = "Make it again: prep build"
    try:
        with Image.open(path) as picture:
            array = np.asarray(picture.convert("RGB"))
    except FileNotFoundError:
        raise PrepError(f"The picture {path} is missing.", again) from None
    except (OSError, UnidentifiedImageError) as error:
        raise PrepError(f"The picture {path} cannot be read: {error}", again) from None
    if array.shape != (size[1], size[0], 3):
        raise PrepError(f"The picture {path} is no longer {size[0]} x {size[1]} pixels.", again)
    return torch.from_numpy(array.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
