"""Token counts of captions against CLIP's own tokenizer, and training's reading of weights."""

from __future__ import annotations

import pytest

from tests.training_set import checkpoint, workspace
from training.models.clip_text import too_long
from training.models.family import TextSettings
from training.sampling.prompt.token_count import count_tokens


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return checkpoint(workspace(tmp_path_factory.mktemp("w"))).tokenizers()["text_encoder"]


@pytest.mark.parametrize("caption", ["", "a man, (red hat:1.3)", "[[a]] (b", r"smith \(series\), BREAK x", "hat " * 74])
@pytest.mark.parametrize("weighted", [False, True])
def test_what_training_counts(tokenizer, caption, weighted):
    count = count_tokens(caption, weighted)
    if not weighted:
        assert count == len(tokenizer(caption, add_special_tokens=False).input_ids)
    for filler, cut in ((75 - count, False), (76 - count, True)):
        longer = f"{caption}, {' '.join(['hat'] * (filler - 1))}" if caption else " ".join(["hat"] * filler)
        if count_tokens(longer, weighted) == count + filler:
            assert too_long(tokenizer, longer, TextSettings(weighted=weighted)) is cut


def test_brackets_and_weights_are_no_tokens():
    assert count_tokens("a (red hat:1.3), [man]", weighted=True) == count_tokens("a red hat, man", weighted=False)
