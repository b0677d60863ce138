"""CLIP vectors of captions, by the model whose image vectors are stored: for `prep check --clip`."""

from __future__ import annotations

import itertools

from pipeline.checks.caption_pages import read_pages
from pipeline.errors import PrepError
from pipeline.manifest import Manifest
from pipeline.shell_words import quoted
from pipeline.stage import ProgressFn
from pipeline.vectors import VectorStore, caption_key
from pipeline.workspace import Workspace
from taggers.clip.clip_model import ClipFiles, embed_texts, find_clip, load_clip

_BATCH = 256  # captions in one call of the model; a crash loses at most these


def embed_captions(manifest: Manifest, workspace: Workspace, source: ClipFiles, report: ProgressFn) -> None:
    """Compute and store the vectors of a dataset's captions, without those of regularization images.

    Stored vectors are not computed again. Captions longer than the model's context are cut off. PrepError when the
    model gives NaN or infinity.
    """
    import numpy as np

    store = VectorStore.of(workspace, source.key)
    missing = [text for text in _captions(manifest) if store.get(caption_key(text)) is None]
    net = load_clip(source, "auto") if missing else None
    waiting, done = iter(missing), 0
    while net is not None and (batch := list(itertools.islice(waiting, _BATCH))):
        rows = embed_texts(net, batch)
        if not np.isfinite(rows).all():
            raise PrepError(
                f"{source.name} gives embeddings that are not finite numbers.",
                "Its weights are damaged: download them again.",
            )
        for text, row in zip(batch, rows, strict=True):
            store.put(caption_key(text), row)
        report(done := done + len(batch), len(missing))


def find_caption_model(manifest: Manifest, workspace: Workspace, model: str, pretrained: str) -> ClipFiles:
    """The files of the model that computed a manifest's stored vectors; PrepError when `model` is another one."""
    store = VectorStore.recorded(workspace, manifest.history)
    if store is None:
        raise PrepError(
            "Captions cannot be scored: there are no CLIP vectors of the images.",
            f"First: prep tag clip --model {quoted(model)}; then: prep merge",
        )
    source = find_clip(model, pretrained, workspace)
    if VectorStore.of(workspace, source.key) != store:
        raise PrepError(
            f"{source.name} is not the model that prep tag clip used.", "Give that model's folder or hub id to --clip."
        )
    return source


def _captions(manifest: Manifest) -> list[str]:
    """The distinct captions of training and validation images."""
    captions: dict[str, None] = {}
    for page in read_pages(manifest):
        own = ~page.equal("role", "reg")
        captions |= dict.fromkeys(filter(None, page.column("caption").filter(own).to_pylist()))
    return list(captions)
