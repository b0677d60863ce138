"""Control maps that models draw: depth, segmentation, soft edges, straight lines, normals, poses."""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError, first_line
from pipeline.models.store import find_model, local_folder
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace
from training.sampling.control.ade20k import class_colors

if TYPE_CHECKING:
    from training.sampling.control.fitting import Pixels

ANNOTATORS = "lllyasviel/Annotators"  # the models of the package controlnet_aux
DEPTH = "depth-anything/Depth-Anything-V2-Small-hf"
SEGMENTATION = "openmmlab/upernet-convnext-small"
# By kind: module and class of controlnet_aux, and the files that it reads.
_CLASSES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "hed": ("hed", "HEDdetector", ("ControlNetHED.pth",)),
    "mlsd": ("mlsd", "MLSDdetector", ("mlsd_large_512_fp32.pth",)),
    "normal": ("normalbae", "NormalBaeDetector", ("scannet.pt",)),
    "openpose": ("open_pose", "OpenposeDetector", ("body_pose_model.pth", "hand_pose_model.pth", "facenet.pth")),
}
# What these take besides the image, with the two thresholds of a request.
_THRESHOLDS = {"mlsd": ("thr_v", "thr_d")}
_TASKS = {"depth": ("depth-estimation", DEPTH), "segmentation": ("image-segmentation", SEGMENTATION)}


def check_detector(kind: str, model: str, workspace: Workspace) -> Path:
    """The folder of the model that draws maps of a kind; PrepError says what to install or to download."""
    if kind in _TASKS:
        return find_model(model or _TASKS[kind][1], workspace, ("config.json", "model.safetensors")).folder
    if importlib.util.find_spec("controlnet_aux") is None:
        raise PrepError(
            f"A map of the kind {kind} needs the package controlnet_aux.",
            "Install it: pip install 'prep-diffusion[control]'",
        )
    files = _CLASSES[kind][2]
    if model and workspace.resolve(model).is_dir():
        folder: Path | None = workspace.resolve(model)
    else:
        folder = local_folder(model or ANNOTATORS, files)
    missing = [file for file in files if folder is None or not (folder / file).is_file()]
    if folder is None or missing:
        raise PrepError(
            f"A map of the kind {kind} needs a model that is not on this machine: {', '.join(missing)}.",
            f"Get it: hf download {escape_control(model or ANNOTATORS)} {' '.join(missing)}",
        )
    return folder


def draw(kind: str, image: Pixels, folder: Path, thresholds: tuple[float, float]) -> Pixels:
    """The map of an image (H, W, 3) uint8 RGB, in its size, by the model in a folder."""
    import numpy as np

    with _quiet():
        if kind in _TASKS:
            drawn = (_depth if kind == "depth" else _segmentation)(_pipeline(kind, folder), image)
        else:
            side = min(image.shape[:2])
            extra = dict(zip(_THRESHOLDS.get(kind, ()), thresholds, strict=False))
            drawn = _detector(kind, folder)(
                image, detect_resolution=side, image_resolution=side, output_type="np", **extra
            )
    assert drawn.shape == image.shape, (drawn.shape, image.shape)
    return np.ascontiguousarray(drawn)


def _depth(pipeline: Any, image: Pixels) -> Pixels:
    """Depth from black, far, to white, near, over the whole range."""
    import numpy as np
    import torch
    from PIL import Image

    depth = pipeline(Image.fromarray(image))["predicted_depth"]
    depth = torch.as_tensor(depth).float().reshape(1, 1, *depth.shape[-2:])
    depth = torch.nn.functional.interpolate(depth, image.shape[:2], mode="bicubic", align_corners=False)[0, 0]
    span = max(float(depth.max() - depth.min()), 1e-6)
    gray = ((depth - depth.min()) / span * 255).round().byte().cpu().numpy()
    return np.repeat(gray[:, :, None], 3, axis=2)


def _segmentation(pipeline: Any, image: Pixels) -> Pixels:
    """Each class of ADE20K in its color."""
    import numpy as np
    from PIL import Image

    numbers = {name: int(number) for number, name in pipeline.model.config.id2label.items()}
    colors = class_colors()
    drawn = np.zeros_like(image)
    for segment in pipeline(Image.fromarray(image)):
        number = numbers[segment["label"]]
        drawn[np.asarray(segment["mask"]) > 0] = colors[number % len(colors)]
    return drawn


@lru_cache(maxsize=2)
def _pipeline(kind: str, folder: Path) -> Any:
    from transformers import pipeline

    try:
        return pipeline(_TASKS[kind][0], model=str(folder))
    except (OSError, ValueError, RuntimeError) as error:
        raise PrepError(
            f"{escape_control(str(folder))} cannot draw a map of the kind {kind}: {first_line(error)}.",
            f"Use the model that prep knows: prep models pull {_TASKS[kind][1]}",
        ) from None


@lru_cache(maxsize=2)
def _detector(kind: str, folder: Path) -> Any:
    """A detector of controlnet_aux; PyTorch reads its pickles as tensors only, by its default."""
    import pickle

    module, name, files = _CLASSES[kind]
    try:
        return getattr(importlib.import_module(f"controlnet_aux.{module}"), name).from_pretrained(str(folder))
    except (pickle.UnpicklingError, OSError, RuntimeError, LookupError, ValueError, EOFError) as error:
        raise PrepError(
            f"{escape_control(str(folder / files[0]))} cannot be read: {first_line(error)}.",
            f"Download it again: hf download --force-download {ANNOTATORS} {' '.join(files)}",
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the warnings of controlnet_aux, and what it prints while it loads, off the terminal."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
