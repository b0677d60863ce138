"""A small data set and base models for the tests of training/."""

from __future__ import annotations

import atexit
import functools
import hashlib
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from pipeline.history import HistoryStep
from pipeline.manifest import Manifest, write_manifest
from pipeline.record import Record
from pipeline.workspace import Workspace
from tests.make import record
from tests.narrow import NARROW as MODELS
from tests.narrow import write_narrow
from training.batch import TrainingImage
from training.models.base_model import find_base
from training.models.families import base_parts
from training.models.loader import BaseModel, open_base_model
from training.models.mini import ensure_mini, mini_folder

# Stable Diffusion 1.x with its eight heads, only narrow and of one layer a block.
NARROW = MODELS["sd1"]

# The weight file of each part of a base model, and those of Stable Diffusion 1.x and 2.x.
PARTS = {name: part.weights for name, part in base_parts().items()}
SD1_PARTS = {name: PARTS[name] for name in ("unet", "vae", "text_encoder")}

# Several test processes on few cores: torch's threads would wait for each other, spinning.
torch.set_num_threads(1)


@functools.cache
def shared() -> Path:
    """A folder for this test process, with the base models that are made once."""
    folder = Path(tempfile.mkdtemp(prefix="prep-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def narrow(kind: str = "sd1") -> Path:
    """A diffusers folder of the narrow model of a family: sd1, sd2, sdxl or sd35."""
    folder = shared() / ("narrow" if kind == "sd1" else kind)
    write_narrow(folder, kind)
    return folder


def workspace(folder: Path) -> Workspace:
    """A workspace in which the mini base is already made."""
    work = Workspace(folder.resolve())
    mini_folder(work.cache).parent.mkdir(parents=True)
    mini_folder(work.cache).symlink_to(ensure_mini(shared()), target_is_directory=True)
    return work


def checkpoint(work: Workspace, base: str = "mini") -> BaseModel:
    return open_base_model(find_base(base, work), work.cache)


def placed(work: Workspace, number: int, **changes: object) -> Record:
    """A record of the dataset, with its image: smooth colors, 64 x 64 by default."""
    import numpy as np
    from PIL import Image

    width, height = changes.pop("size", (64, 64))  # type: ignore[misc]
    rows = np.linspace(0, 1, height)[:, None, None] * np.array([number % 3, 1, 2])
    columns = np.linspace(0, 1, width)[None, :, None] * np.array([1, number % 5, 0])
    array = (np.sin(rows * 3 + columns * 5 + number) * 127 + 128).astype("uint8")
    pixels = hashlib.sha256(array.tobytes()).hexdigest()
    path = work.images / f"{pixels}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    made = record(number)
    image = replace(made.image, path=work.relative(path), width=width, height=height, pixel_sha256=pixels)
    reg = changes.get("role") == "reg"
    usual = {
        "image": image,
        "caption": "man" if reg else f"smith, image {number}",
        "dataset_path": f"dataset/{'reg_x/1_man' if reg else 'train_x/2_smith man'}/{number}.png",
        "subject": "" if reg else "smith",
    }
    return replace(made, **usual | changes)


def held_out(work: Workspace, number: int, **changes: object) -> Record:
    """A record of a validation image."""
    changes = {"role": "val", "dataset_path": f"dataset/val_x/1_smith man/{number}.png"} | changes
    return placed(work, number, **changes)


def manifest(work: Workspace, records: list[Record]) -> Manifest:
    """The build manifest of these records."""
    ordered = sorted(records, key=lambda record: record.id)
    return write_manifest(work.manifest("build"), [ordered], (HistoryStep("build", 1, {}, "input"),))


def sample(number: int, **changes: object) -> TrainingImage:
    """A sample without an image, for what only counts them."""
    usual = {
        "id": f"{number:016x}",
        "path": f"images/{number}.png",
        "pixel_sha256": f"{number:064x}",
        "width": 64,
        "height": 64,
        "caption": f"smith, image {number}",
        "subject": "smith",
        "class_name": "man",
        "reg": False,
        "folder": "2_smith man",
        "repeats": 2,
    }
    return TrainingImage(**usual | changes)
