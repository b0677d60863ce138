"""A cache of CLIP embeddings of images, by the hash of their pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.imaging.image_file import pixel_hash
from pipeline.vectors import VectorStore

if TYPE_CHECKING:
    import numpy as np

Infer = Callable[["list[np.ndarray]"], "np.ndarray"]  # uint8 RGB images to float32 unit rows


def embed_cached(store: VectorStore, infer: Infer, images: list[np.ndarray]) -> np.ndarray:
    """Embeddings of H x W x 3 uint8 RGB images, n x size float32; `infer` gets each new one once."""
    import numpy as np

    keys = [pixel_hash(image) for image in images]
    rows = {key: row for key in dict.fromkeys(keys) if (row := store.get(key)) is not None}
    unknown = {key: image for key, image in zip(keys, images, strict=True) if key not in rows}
    if unknown:
        for key, row in zip(unknown, infer(list(unknown.values())), strict=True):
            if np.isfinite(row).all():  # the caller reports nan; it is never stored
                store.put(key, row)
            rows[key] = row
    return np.stack([rows[key] for key in keys]).astype(np.float32)
