"""The world's scenes as arrays: images and tags by number, painted once and kept in a cache."""

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
from sample_data.world.render import paint
from sample_data.world.scene import scene_of
from sample_data.world.tags import TAGS, tags_of

if TYPE_CHECKING:
    import numpy as np

SIDE = 64  # pixels: what the models see and paint
TAUGHT = range(16_000)  # scenes that models learn from
HELD = range(1_000_000, 1_002_000)  # and those that they are judged by
CACHE = Path(tempfile.gettempdir()) / "prep-mini"
NAMES = tuple(tag.name for tag in TAGS)
_CHUNK = 1_000  # scenes in a file
_PROBES = 32  # scenes that tell one world from another


@dataclass(frozen=True, slots=True)
class Scenes:
    """Images with what can be seen in them."""

    images: np.ndarray  # (N, SIDE, SIDE, 3) uint8 RGB
    tags: np.ndarray  # (N, len(TAGS)) bool

    def names(self, number: int) -> list[str]:
        """The tags of one image, in TAGS' order."""
        return [NAMES[at] for at in self.tags[number].nonzero()[0]]


def scenes(numbers: range, cache: Path = CACHE) -> Scenes:
    """The scenes of these numbers; what is not in the cache is painted by two processes.

    The cache's folder is named by what the world looks like, so a changed one is painted anew.
    """
    import numpy as np

    folder = cache / f"scenes-{_world()[:12]}"
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


def painted(number: int, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """One scene: its image (side, side, 3) and its tags (len(TAGS),)."""
    import numpy as np

    scene = scene_of(number)
    seen = set(tags_of(scene))
    return np.asarray(paint(scene, side, side)), np.array([name in seen for name in NAMES])


def _write(folder: Path, start: int) -> None:
    import numpy as np

    images, tags = zip(*(painted(number) for number in range(start, start + _CHUNK)), strict=True)
    buffer = io.BytesIO()
    np.savez(buffer, images=np.stack(images), tags=np.stack(tags))
    write_atomic(_file(folder, start), buffer.getvalue())


def _file(folder: Path, start: int) -> Path:
    return folder / f"{start:08d}.npz"


def _world() -> str:
    """A hash of how the first scenes look, so that other looks are noticed and other comments are not."""
    found = hashlib.sha256()
    for number in range(_PROBES):
        image, tags = painted(number)
        found.update(image.tobytes() + tags.tobytes())
    return found.hexdigest()
