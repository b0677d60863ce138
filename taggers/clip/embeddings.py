"""Picture embeddings, kept on disk by content: no picture goes through the same model twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.imaging.picture import pixel_hash
from pipeline.workspace import Workspace, write_atomic

if TYPE_CHECKING:
    import numpy as np

Infer = Callable[["list[np.ndarray]"], "np.ndarray"]  # uint8 RGB pictures to float32 unit rows


@dataclass(frozen=True, slots=True)
class Store:
    """The embeddings that one model gave, one small safetensors file a picture, below cache/embeddings/."""

    folder: Path

    @classmethod
    def of(cls, workspace: Workspace, model: str) -> Store:
        """The store of a model; `model` is a hash over all that decides its embeddings."""
        return cls(workspace.cache / "embeddings" / model[:16])

    def path(self, pixels: str) -> Path:
        return self.folder / pixels[:2] / f"{pixels}.safetensors"

    def get(self, pixels: str) -> np.ndarray | None:
        """The embedding of the picture with these pixels (Picture.pixels); None when unknown or damaged."""
        import numpy as np
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(self.path(pixels).read_bytes())
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None
        row, seal = tensors.get("embedding"), tensors.get("sha256")
        if row is None or seal is None or row.ndim != 1 or row.dtype != np.float32 or seal.dtype != np.uint8:
            return None
        return row if seal.tobytes() == _seal(pixels, row) else None

    def put(self, pixels: str, row: np.ndarray) -> None:
        """Keep one float32 embedding; its hash goes with it, so that a damaged file is noticed."""
        import numpy as np
        from safetensors.numpy import save

        row = np.ascontiguousarray(row, np.float32)
        seal = np.frombuffer(_seal(pixels, row), np.uint8)
        write_atomic(self.path(pixels), save({"embedding": row, "sha256": seal}))

    def gather(self, pixels: Sequence[str]) -> tuple[np.ndarray, list[str]]:
        """The known embeddings as one array, n x size, and the pixels they belong to, in the order given."""
        import numpy as np

        known = [(key, row) for key in pixels if (row := self.get(key)) is not None]
        return (np.stack([row for _, row in known]) if known else np.empty((0, 0), np.float32)), [k for k, _ in known]


def embed(store: Store, infer: Infer, pictures: list[np.ndarray]) -> np.ndarray:
    """Embeddings of H x W x 3 uint8 RGB pictures, n x size float32; `infer` sees only unknown ones, each once."""
    import numpy as np

    keys = [pixel_hash(picture) for picture in pictures]
    rows = {key: row for key in dict.fromkeys(keys) if (row := store.get(key)) is not None}
    unknown = {key: picture for key, picture in zip(keys, pictures, strict=True) if key not in rows}
    if unknown:
        for key, row in zip(unknown, infer(list(unknown.values())), strict=True):
            if np.isfinite(row).all():  # what is no number is the caller's to tell, never to keep
                store.put(key, row)
            rows[key] = row
    return np.stack([rows[key] for key in keys]).astype(np.float32)


def near_pairs(rows: np.ndarray, floor: float, block: int = 2048) -> Iterator[tuple[int, int, float]]:
    """Pairs (i, j, cosine) with i < j whose unit embeddings are at least `floor` alike; memory is block x block."""
    import numpy as np

    for top in range(0, len(rows), block):
        for left in range(top, len(rows), block):
            alike = rows[top : top + block] @ rows[left : left + block].T
            for i, j in np.argwhere(alike >= floor).tolist():
                if top + i < left + j:
                    yield top + i, left + j, float(alike[i, j])


def fit(pictures: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """How well each caption fits its picture: 2.5 * max(cosine, 0), row by row.

    CLIPScore of Hessel et al., 2021 (arXiv:2104.08718), equation 1; both arrays are n x size, unit rows.
    """
    import numpy as np

    return np.asarray(2.5 * np.maximum((pictures * captions).sum(axis=1), 0.0))


def strangeness(rows: np.ndarray, neighbours: int = 5) -> np.ndarray:
    """How far each picture is from the others: 1 - mean cosine to its nearest neighbours, 0 (a copy) to 2.

    A set of one picture has no others: its score is 0.
    """
    import numpy as np

    count = min(neighbours, len(rows) - 1)
    if count < 1:
        return np.zeros(len(rows), np.float32)
    scores = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), 1024):
        alike = rows[start : start + 1024] @ rows.T
        alike[np.arange(len(alike)), start + np.arange(len(alike))] = -np.inf  # not its own neighbour
        scores[start : start + 1024] = 1 - np.partition(alike, -count, axis=1)[:, -count:].mean(axis=1)
    return scores


def _seal(pixels: str, row: np.ndarray) -> bytes:
    return hashlib.sha256(pixels.encode() + row.tobytes()).digest()
