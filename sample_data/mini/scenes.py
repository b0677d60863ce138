"""Scenes as arrays of images and tags, rendered once and cached."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.workspace import write_atomic
from sample_data.world.render import render_scene
from sample_data.world.scene import scene_of
from sample_data.world.tags import TAGS, tags_of

if TYPE_CHECKING:
    import numpy as np

SIDE = 64  # image size of the models in pixels
TRAINING_SCENES = range(16_000)  # seeds of the training scenes
HELD_OUT_SCENES = range(1_000_000, 1_002_000)  # seeds of the held-out scenes
CACHE = Path(tempfile.gettempdir()) / "prep-mini"
NAMES = tuple(tag.name for tag in TAGS)
_CHUNK = 1_000  # scenes per cache file
_PROBES = 32  # scenes whose hash names the cache folder


@dataclass(frozen=True, slots=True)
class Scenes:
    """Images with their tags."""

    images: np.ndarray  # (N, SIDE, SIDE, 3) uint8 RGB
    tags: np.ndarray  # (N, len(TAGS)) bool

    def tag_names(self, number: int) -> list[str]:
        """The names of the tags of one image, in the order of TAGS."""
        return [NAMES[at] for at in self.tags[number].nonzero()[0]]


def load_scenes(numbers: range, cache: Path = CACHE) -> Scenes:
    """The scenes with these seeds; those that are not cached are rendered by two processes.

    The cache folder's name is a hash of rendered scenes, so a change of the renderer uses another one.
    """
    import numpy as np

    folder = cache / f"scenes-{_world_hash()[:12]}"
    starts = range(numbers.start - numbers.start % _CHUNK, numbers.stop, _CHUNK)
    missing = [start for start in starts if not _file(folder, start).is_file()]
    if len(missing) > 1:
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            list(pool.imap(partial(_write, folder), missing))
    elif missing:
        _write(folder, missing[0])
    images, tags = [], []
    for start in starts:
        with np.load(_file(folder, start)) as chunk:
            wanted = slice(max(numbers.start - start, 0), numbers.stop - start)
            images.append(chunk["images"][wanted])
            tags.append(chunk["tags"][wanted])
    return Scenes(np.concatenate(images), np.concatenate(tags))


def render_number(number: int, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """One scene: image (side, side, 3) uint8 and tags (len(TAGS),) bool."""
    import numpy as np

    scene = scene_of(number)
    seen = set(tags_of(scene))
    return np.asarray(render_scene(scene, side, side)), np.array([name in seen for name in NAMES])


def _write(folder: Path, start: int) -> None:
    import numpy as np

    images, tags = zip(*(render_number(number) for number in range(start, start + _CHUNK)), strict=True)
    buffer = io.BytesIO()
    np.savez(buffer, images=np.stack(images), tags=np.stack(tags))
    write_atomic(_file(folder, start), buffer.getvalue())


def _file(folder: Path, start: int) -> Path:
    return folder / f"{start:08d}.npz"


def _world_hash() -> str:
    """A hash of the first scenes' pixels and tags: it changes with the renderer, not with its comments."""
    digest = hashlib.sha256()
    for number in range(_PROBES):
        image, tags = render_number(number)
        digest.update(image.tobytes() + tags.tobytes())
    return digest.hexdigest()
