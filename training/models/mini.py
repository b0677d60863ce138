"""The mini base model: a tiny untrained Stable Diffusion 1.x, generated from a seed, for trying prep anywhere."""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from pipeline.models.file_hashes import joined_sha256
from pipeline.workspace import file_sha256
from training.models.architecture_config import ArchitectureConfig, TextEncoderConfig, write_config_folder
from training.models.families import base_parts
from training.models.parts import empty_part, published_name

if TYPE_CHECKING:
    import torch

VERSION = 1  # raise it when the weights change
# The hashes of the weights on every machine: of all parts, and of the VAE. With them provenance can name the model
# before it is made, and a damaged copy is detected.
SHA256 = "72a627539ce681f747b793a14b6e221294bb4966e24cd2ae3921697a9fafceec"
VAE_SHA256 = "e89a22a22bb2dc3cb47938d456a3382481f1d41955491dd93ad6cfcdce05ac09"

# VAE factor 8 as in the large models; with one layer per block and one head a step at 512 x 512 takes less than half a
# second on two cores. 0.25 M parameters in the VAE, 2.2 M in the U-Net, 3.3 M in the text encoder.
MINI = ArchitectureConfig(
    unet=(32, 64, 64, 64),
    unet_layers=1,
    unet_heads=1,
    vae=(8, 16, 32, 32),
    vae_layers=1,
    vae_scale=2.0,
    texts=(TextEncoderConfig(64, 2),),
)


def mini_folder(cache: Path) -> Path:
    """The folder of the mini base model, which may not exist yet."""
    return cache / "bases" / f"mini-{VERSION}"


def ensure_mini(cache: Path) -> Path:
    """The diffusers folder of the mini base model in `cache`; it is made when it is missing or damaged."""
    target = mini_folder(cache)
    if target.is_dir():
        if weights_sha256(target) == SHA256:
            return target
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".mini-", dir=target.parent))
    try:
        write_model(draft, MINI)
        if (found := weights_sha256(draft)) != SHA256:
            raise PrepError(
                f"The mini base model differs here from that on every tested machine (sha256 {found[:16]}).",
                "Report this with the versions of numpy, torch and diffusers, and train on another base model.",
            )
        draft.chmod(0o755)
        draft.replace(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def weights_sha256(folder: Path) -> str:
    """The hash of a diffusers folder's weights; empty when some are missing."""
    files = [folder / part / base_parts()[part].weights for part in ("unet", "vae", "text_encoder")]
    return joined_sha256([file_sha256(file) for file in files]) if all(file.is_file() for file in files) else ""


def write_model(folder: Path, architecture: ArchitectureConfig) -> None:
    """Write a diffusers folder of this architecture, with weights from a seed."""
    from training.export.tensor_file import write_tensors

    write_config_folder(folder, architecture)
    for name, part in base_parts().items():
        if (folder / name).is_dir():
            weights = {published_name(name, k): value for k, value in empty_part(folder, name).state_dict().items()}
            tensors = {key: seeded(f"{name}.{key}", value) for key, value in weights.items()}
            write_tensors(folder / name / part.weights, tensors, {"format": "pt"})


def seeded(name: str, like: torch.Tensor) -> torch.Tensor:
    """A weight of the shape of `like` that depends on its name alone, with the same bits on every machine.

    24-bit integers of PCG64, whose stream NumPy guarantees, are exact in float32, and one multiplication is rounded
    the same everywhere; torch's normal distribution is not.
    """
    import numpy as np
    import torch

    if not like.is_floating_point():
        return like.clone()
    if name.endswith("bias"):
        return _bias(name, like)
    if like.dim() == 1:  # the scale of a normalization
        return torch.ones_like(like)
    seed = int.from_bytes(hashlib.sha256(f"mini {VERSION} {name}".encode()).digest()[:8], "big")
    raw = np.random.PCG64(seed).random_raw(like.numel()) >> np.uint64(40)
    whole = torch.from_numpy(raw.astype(np.int64) - (1 << 23)).to(torch.float32)
    return (whole * (_bound(name, like) / (1 << 23))).reshape(like.shape)


def _bound(name: str, like: Any) -> float:
    """Half the width of the uniform distribution, which keeps the variance of activations."""
    if "embedding" in name and "text_encoder" in name:
        return 0.05
    return math.sqrt(3 / math.prod(like.shape[1:]))


def _bias(name: str, like: torch.Tensor) -> torch.Tensor:
    """Zeros; only the bias of the VAE's log variance is -8, so that its latents contain little noise."""
    import torch

    bias = torch.zeros_like(like)
    if name == "vae.quant_conv.bias":
        bias[like.shape[0] // 2 :] = -8.0
    return bias
