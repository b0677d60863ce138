"""Vectors of captions, by the model whose vectors of the images are stored: for `prep check --clip`."""

from __future__ import annotations

import itertools

from pipeline.checks.caption_pages import read_pages
from pipeline.errors import PrepError
from pipeline.manifest import Manifest
from pipeline.stage import ProgressFn
from pipeline.vectors import VectorStore, caption_key
from pipeline.workspace import Workspace
from taggers.clip.clip_model import ClipFiles, embed_texts, find_clip, load_clip

_AT_ONCE = 256  # captions in one call of the model; a crash loses no more


def embed_captions(manifest: Manifest, workspace: Workspace, source: ClipFiles, report: ProgressFn) -> None:
    """Store the vectors of a set's captions, regularization's left out; only captions without one go through the model.

    What the model's context cannot hold of a caption is cut off. PrepError when the model's numbers are none.
    """
    import numpy as np

    store = VectorStore.of(workspace, source.key)
    missing = [text for text in _captions(manifest) if store.get(caption_key(text)) is None]
    net = load_clip(source, "auto") if missing else None
    waiting, done = iter(missing), 0
    while net is not None and (some := list(itertools.islice(waiting, _AT_ONCE))):
        rows = embed_texts(net, some)
        if not np.isfinite(rows).all():
            raise PrepError(f"{source.name} gives embeddings that are not numbers (nan).", "Its weights are damaged.")
        for text, row in zip(some, rows, strict=True):
            store.put(caption_key(text), row)
        report(done := done + len(some), len(missing))


def find_caption_model(manifest: Manifest, workspace: Workspace, model: str, pretrained: str) -> ClipFiles:
    """The files of the model that stored the vectors of a manifest's images; PrepError when it is another one."""
    store = VectorStore.recorded(workspace, manifest.history)
    if store is None:
        raise PrepError(
            "The captions cannot be judged: no vectors of the images are stored.",
            f"First: prep tag clip --model {model}; then: prep merge",
        )
    source = find_clip(model, pretrained, workspace)
    if VectorStore.of(workspace, source.key) != store:
        raise PrepError(f"{source.name} is not the model that prep tag clip used.", "Name that model's folder or id.")
    return source


def _captions(manifest: Manifest) -> list[str]:
    """The different captions of what is trained and judged on."""
    found: dict[str, None] = {}
    for page in read_pages(manifest):
        mine = ~page.equal("role", "reg")
        found |= dict.fromkeys(filter(None, page.column("caption").filter(mine).to_pylist()))
    return list(found)
