"""Embeddings of images and captions: stored on disk by content, and measures computed from them."""

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

PROVENANCE = "clip embeddings"  # the name, among a step's models, of the one whose embeddings it stored


@dataclass(frozen=True, slots=True)
class VectorStore:
    """The embeddings of one model, one small safetensors file each, below cache/embeddings/."""

    folder: Path

    @classmethod
    def of(cls, workspace: Workspace, model: str) -> VectorStore:
        """The store of a model; `model` is a hash over everything that decides its embeddings."""
        return cls(workspace.cache / "embeddings" / model[:16])

    @classmethod
    def recorded(cls, workspace: Workspace, history: Iterable[HistoryStep]) -> VectorStore | None:
        """The store that the last such step of a history filled; None if no step stored embeddings."""
        models = [model for step in history for model in step.models if model.name == PROVENANCE]
        return cls.of(workspace, models[-1].sha256) if models else None

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def get(self, key: str) -> np.ndarray | None:
        """The float32 embedding of an image, by its `pixel_sha256`, or of a caption, by `caption_key`.

        None when it is not stored or damaged.
        """
        import numpy as np
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(self.path(key).read_bytes())
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None
        row, checksum = tensors.get("embedding"), tensors.get("sha256")
        if row is None or checksum is None or row.ndim != 1 or row.dtype != np.float32 or checksum.dtype != np.uint8:
            return None
        return row if checksum.tobytes() == _checksum(key, row) else None

    def put(self, key: str, row: np.ndarray) -> None:
        """Store one float32 embedding, with a checksum that reveals a damaged file."""
        import numpy as np
        from safetensors.numpy import save

        row = np.ascontiguousarray(row, np.float32)
        checksum = np.frombuffer(_checksum(key, row), np.uint8)
        write_atomic(self.path(key), save({"embedding": row, "sha256": checksum}))

    def gather(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The stored embeddings as one array (n, size), and the index of each in `keys`, ascending."""
        import numpy as np

        known = [(index, row) for index, key in enumerate(keys) if (row := self.get(key)) is not None]
        rows = np.stack([row for _, row in known]) if known else np.empty((0, 0), np.float32)
        return rows, np.array([index for index, _ in known], np.int64)


def caption_key(caption: str) -> str:
    """The key of a caption's embedding; never equal to an image's."""
    return hashlib.sha256(b"caption\0" + caption.encode()).hexdigest()


def near_pairs(rows: np.ndarray, min_cosine: float, block: int = 1024) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs i < j of unit vectors with a cosine similarity of at least `min_cosine`, as two arrays per block.

    All pairs are compared; memory is block x block.
    """
    import numpy as np

    for top in range(0, len(rows), block):
        for left in range(top, len(rows), block):
            alike = rows[top : top + block] @ rows[left : left + block].T >= min_cosine
            ones, others = np.nonzero(np.triu(alike, 1) if top == left else alike)
            if len(ones):
                yield top + ones, left + others


def near_groups(rows: np.ndarray, min_cosine: float) -> np.ndarray:
    """For each vector the smallest index in its group: the connected component of the near pairs."""
    import numpy as np

    parent = np.arange(len(rows))
    for ones, others in near_pairs(rows, min_cosine):
        parent = union_find(parent, ones, others)
    return parent


def pairwise_spread(rows: np.ndarray, most: int = 1000) -> float:
    """How far apart unit vectors are: the ninth decile of 1 - cosine over all pairs of at most `most` vectors.

    Not the median, so that it also holds for datasets in which most images show one scene. 0 for fewer than two
    vectors.
    """
    import numpy as np

    sample = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)]
    apart = (1 - sample @ sample.T)[np.triu_indices(len(sample), 1)]
    return float(np.quantile(apart, 0.9)) if len(apart) else 0.0


def clip_score(images: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """How well each caption fits its image: 2.5 * max(cosine, 0) per row.

    CLIPScore of Hessel et al., 2021 (arXiv:2104.08718), equation 1. Both arrays are (n, size) with rows of unit length.
    """
    import numpy as np

    return np.asarray(2.5 * np.maximum((images * captions).sum(axis=1), 0.0))


def knn_outlier_score(rows: np.ndarray, neighbors: int = 5) -> np.ndarray:
    """How far each vector is from the others: 1 - mean cosine to its nearest neighbors, from 0 (a copy) to 2.

    The score of a single vector is 0.
    """
    import numpy as np

    count = min(neighbors, len(rows) - 1)
    if count < 1:
        return np.zeros(len(rows), np.float32)
    scores = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), 1024):
        alike = rows[start : start + 1024] @ rows.T
        alike[np.arange(len(alike)), start + np.arange(len(alike))] = -np.inf  # not its own neighbor
        scores[start : start + 1024] = 1 - np.partition(alike, -count, axis=1)[:, -count:].mean(axis=1)
    return scores


def deviations(values: np.ndarray) -> np.ndarray:
    """How far each value is from the median, in robust standard deviations; infinite if most values are equal.

    The modified z-score of Iglewicz and Hoaglin, 1993: 0.6745 times the distance over the median of all distances,
    which a few outliers cannot change.
    """
    import numpy as np

    distance = values.astype(np.float64) - np.median(values)
    typical = float(np.median(np.abs(distance)))
    return np.asarray(
        0.6745 * distance / typical if typical else np.where(distance == 0, 0.0, np.copysign(np.inf, distance))
    )


def _checksum(key: str, row: np.ndarray) -> bytes:
    return hashlib.sha256(key.encode() + row.tobytes()).digest()
