"""CLIP scores of samples, with a tiny model in the real format."""

from __future__ import annotations

import open_clip
import pytest
import torch
from PIL import Image

from pipeline.models.catalog import CATALOG
from pipeline.workspace import Workspace
from tests.sampling_set import sample_callback
from tests.tagger_contracts import coarse_photo
from tests.tiny import write_clip
from training.evaluation.clip_score import MODEL, ClipScorer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("models") / "tiny-clip")


def test_vectors_are_open_clips_own(folder):
    scorer = ClipScorer.find(str(folder), Workspace(folder.parent))
    image = Image.fromarray(coarse_photo(60, 90))
    net, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(["a hat"])
    with torch.no_grad():
        seen, read = net.eval().encode_image(transform(image)[None])[0], net.encode_text(tokens)[0]
    assert torch.allclose(scorer.image(image), seen / seen.norm(), atol=1e-6)
    assert torch.allclose(scorer.text("a hat"), read / read.norm(), atol=1e-6)


def test_the_usual_model_is_one_that_prep_can_pull():
    assert next(known for known in CATALOG if known.name == MODEL).used_by == "clip"


def test_samples_are_scored(folder, tmp_path):
    callback = sample_callback(tmp_path, sample_clip=str(folder))
    callback.on_train_begin(0)
    scorer = callback.clip_scorer
    for row in callback.rows:
        vector = scorer.image(Image.open(callback.paths.folder / row.file))
        assert row.clip_prompt == pytest.approx(float(vector @ scorer.text(row.prompt)), abs=1e-5)
        assert row.clip_subject == pytest.approx(float(vector @ callback.subject_vectors["smith"]), abs=1e-5)
    assert float(callback.subject_vectors["smith"].norm()) == pytest.approx(1)
    assert len({row.clip_prompt for row in callback.rows}) == 2
