"""Vectors that a model gave images and captions, kept on disk by content, and what they say of a set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.history import HistoryStep
from pipeline.imaging.near_duplicates import union_find
from pipeline.workspace import Workspace, write_atomic

if TYPE_CHECKING:
    import numpy as np

PROVENANCE = "clip embeddings"  # the entry among a step's models that says whose vectors it stored


@dataclass(frozen=True, slots=True)
class VectorStore:
    """The vectors that one model gave, one small safetensors file each, below cache/embeddings/."""

    folder: Path

    @classmethod
    def of(cls, workspace: Workspace, model: str) -> VectorStore:
        """The store of a model; `model` is a hash over all that decides its vectors."""
        return cls(workspace.cache / "embeddings" / model[:16])

    @classmethod
    def recorded(cls, workspace: Workspace, history: Iterable[HistoryStep]) -> VectorStore | None:
        """The store that the last step that stored vectors filled; None when no step of the history did."""
        models = [model for step in history for model in step.models if model.name == PROVENANCE]
        return cls.of(workspace, models[-1].sha256) if models else None

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def get(self, key: str) -> np.ndarray | None:
        """The vector of the image with these pixels (Image.pixels), or of a caption (caption_key).

        None when it is unknown or damaged.
        """
        import numpy as np
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(self.path(key).read_bytes())
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None
        row, seal = tensors.get("embedding"), tensors.get("sha256")
        if row is None or seal is None or row.ndim != 1 or row.dtype != np.float32 or seal.dtype != np.uint8:
            return None
        return row if seal.tobytes() == _checksum(key, row) else None

    def put(self, key: str, row: np.ndarray) -> None:
        """Keep one float32 vector; its hash goes with it, so that a damaged file is noticed."""
        import numpy as np
        from safetensors.numpy import save

        row = np.ascontiguousarray(row, np.float32)
        seal = np.frombuffer(_checksum(key, row), np.uint8)
        write_atomic(self.path(key), save({"embedding": row, "sha256": seal}))

    def gather(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The known vectors as one array, n x size, and where in `keys` each stands, in the order given."""
        import numpy as np

        known = [(place, row) for place, key in enumerate(keys) if (row := self.get(key)) is not None]
        rows = np.stack([row for _, row in known]) if known else np.empty((0, 0), np.float32)
        return rows, np.array([place for place, _ in known], np.int64)


def caption_key(caption: str) -> str:
    """What a caption's vector is kept under: no image's pixels have the same key."""
    return hashlib.sha256(b"caption\0" + caption.encode()).hexdigest()


def near_pairs(rows: np.ndarray, floor: float, block: int = 1024) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs i < j whose unit vectors have a cosine of at least `floor`, as two arrays, a block at a time.

    All pairs are compared; memory is block x block.
    """
    import numpy as np

    for top in range(0, len(rows), block):
        for left in range(top, len(rows), block):
            alike = rows[top : top + block] @ rows[left : left + block].T >= floor
            ones, others = np.nonzero(np.triu(alike, 1) if top == left else alike)
            if len(ones):
                yield top + ones, left + others


def near_groups(rows: np.ndarray, floor: float) -> np.ndarray:
    """For each vector the least index of its group: near pairs share one, and whoever shares with them."""
    import numpy as np

    parent = np.arange(len(rows))
    for ones, others in near_pairs(rows, floor):
        parent = union_find(parent, ones, others)
    return parent


def pairwise_spread(rows: np.ndarray, most: int = 1000) -> float:
    """How far apart unit vectors lie: the ninth decile of 1 - cosine over the pairs of `most`, evenly chosen.

    Not the median: where most images are one scene's, the others still say how far the model tells things apart.
    0 for fewer than two vectors.
    """
    import numpy as np

    some = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)]
    apart = (1 - some @ some.T)[np.triu_indices(len(some), 1)]
    return float(np.quantile(apart, 0.9)) if len(apart) else 0.0


def clip_score(images: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """How well each caption fits its image: 2.5 * max(cosine, 0), row by row.

    CLIPScore of Hessel et al., 2021 (arXiv:2104.08718), equation 1; both arrays are n x size, unit rows.
    """
    import numpy as np

    return np.asarray(2.5 * np.maximum((images * captions).sum(axis=1), 0.0))


def knn_outlier_score(rows: np.ndarray, neighbours: int = 5) -> np.ndarray:
    """How far each image is from the others: 1 - mean cosine to its nearest neighbours, 0 (a copy) to 2.

    A set of one image has no others: its score is 0.
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


def deviations(values: np.ndarray) -> np.ndarray:
    """How far each value is from the median, in robust standard deviations; infinite where most are equal.

    The modified z-score of Iglewicz and Hoaglin, 1993: 0.6745 times the distance over the median of all distances,
    which a few odd values cannot move.
    """
    import numpy as np

    away = values.astype(np.float64) - np.median(values)
    usual = float(np.median(np.abs(away)))
    return np.asarray(0.6745 * away / usual if usual else np.where(away == 0, 0.0, np.copysign(np.inf, away)))


def _checksum(key: str, row: np.ndarray) -> bytes:
    return hashlib.sha256(key.encode() + row.tobytes()).digest()
