"""Captions through the CLIP model that saw the images: its own vectors, made once, and only by that model."""

from __future__ import annotations

import json
import shutil

import numpy as np
import open_clip
import pytest
import torch
from safetensors.numpy import load_file, save_file

from pipeline.checks import caption_vectors
from pipeline.checks.caption_vectors import embed_captions, find_caption_model
from pipeline.errors import PrepError
from pipeline.history import HistoryStep, Model
from pipeline.manifest import write_manifest
from pipeline.vectors import PROVENANCE, VectorStore, caption_key, clip_score
from pipeline.workspace import Workspace
from taggers.clip.clip_model import find_clip
from tests.checking import good, prior
from tests.make import workspace as make_workspace
from tests.shell import prep
from tests.tiny import write_clip

WORDS = ("hat", "a long red coat", "street", "a dog, a cat", "naïve café", "beard", "sea", "snow", "night")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("models") / "tiny-clip")


def theirs(tiny, captions):
    """The same captions through open_clip's own factory."""
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tiny}")
    tokenize = open_clip.get_tokenizer(f"local-dir:{tiny}")
    with torch.no_grad():
        return model.eval().encode_text(tokenize(captions), normalize=True).numpy()


def written(workspace, tiny, records):
    """Merge's manifest after a tagging by the model."""
    key = find_clip(str(tiny), "", workspace).key
    steps = (HistoryStep("clip", 1, {}, "x", (Model(PROVENANCE, key),)), HistoryStep("merge", 1, {}, "y"))
    ordered = sorted(records, key=lambda one: one.id)
    return write_manifest(workspace.manifest("merge"), [ordered], steps)


def keep(manifest, workspace, tiny, reported=None):
    source = find_caption_model(manifest, workspace, str(tiny), "")
    embed_captions(
        manifest, workspace, source, lambda done, total: (reported if reported is not None else []).append(total)
    )
    return VectorStore.of(workspace, source.key)


def test_vectors_are_the_models_own_and_made_once(tmp_path, tiny, monkeypatch):
    workspace = Workspace(tmp_path)
    records = [good(n, caption=f"smthx, {word}") for n, word in enumerate(WORDS)]
    records += [good(20, caption=records[0].caption), good(21, caption=""), prior(22, caption="man, hill")]
    manifest, reported = written(workspace, tiny, records), []
    store = keep(manifest, workspace, tiny, reported)
    captions = [f"smthx, {word}" for word in WORDS]
    rows, places = store.gather([caption_key(caption) for caption in captions])
    assert len(places) == len(WORDS) and np.abs(rows - theirs(tiny, captions)).max() < 1e-6
    assert reported == [len(WORDS)], "each once; not the empty one, not regularization's"
    monkeypatch.setattr(caption_vectors, "load_clip", None)  # a second look loads no model
    keep(manifest, workspace, tiny)
    monkeypatch.undo()
    keep(written(workspace, tiny, [*records, good(30, caption="smthx, new")]), workspace, tiny, reported)
    assert reported[1:] == [1]


def test_another_model_is_refused(tmp_path, tiny):
    workspace = Workspace(tmp_path)
    manifest = written(workspace, tiny, [good(n) for n in range(3)])
    other = shutil.copytree(tiny, tmp_path / "other-clip")
    tensors = load_file(other / "open_clip_model.safetensors")
    save_file(tensors | {"visual.proj": -tensors["visual.proj"]}, other / "open_clip_model.safetensors")
    with pytest.raises(PrepError, match="other-clip is not the model that prep tag clip used"):
        keep(manifest, workspace, other)
    bare = write_manifest(workspace.manifest("merge"), [], (HistoryStep("merge", 1, {}, "y"),))
    with pytest.raises(PrepError, match="no CLIP vectors of the images") as error:
        keep(bare, workspace, tiny)
    assert error.value.hint == f"First: prep tag clip --model {tiny}; then: prep merge"


def test_numbers_that_are_none_are_never_kept(tmp_path, tiny):
    workspace, broken = Workspace(tmp_path), shutil.copytree(tiny, tmp_path / "broken")
    tensors = load_file(broken / "open_clip_model.safetensors")
    tensors["text_projection"][0, 0] = np.nan
    save_file(tensors, broken / "open_clip_model.safetensors")
    with pytest.raises(PrepError, match="not finite"):
        keep(written(workspace, broken, [good(0)]), workspace, broken)
    assert not list(workspace.cache.rglob("*.safetensors"))


def test_check_names_the_caption_that_does_not_fit(tmp_path, tiny):
    """Images made to fit their captions, but for one that fits as badly as can be."""
    workspace = make_workspace(tmp_path)
    records = [good(n, caption=f"smthx, {word}") for n, word in enumerate(WORDS)]
    manifest = written(workspace, tiny, records)
    rows = theirs(tiny, [one.caption for one in records])
    rows[4] *= -1
    assert clip_score(rows, theirs(tiny, [one.caption for one in records]))[3:6] == pytest.approx(
        [2.5, 0.0, 2.5], abs=1e-5
    )
    store = VectorStore.recorded(workspace, manifest.history)
    for one, row in zip(records, rows, strict=True):
        store.put(one.image.pixel_sha256, row)

    def badly(*args):
        done = prep("-C", workspace.root, "check", "--no-measure", "--json", *args)
        return [row["images"] for row in map(json.loads, done.stdout.splitlines()) if row["rule"].startswith("capt")]

    assert badly() == [], "without the captions' vectors they are not judged"
    assert badly("--clip", tiny) == badly() == [["raw/4.jpg"]]
    refused = prep("-C", workspace.root, "check", workspace.root, "--clip", tiny, code=1)
    assert "--clip needs the captions of a workspace." in refused.stderr
