from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.checks.chunks import Cutter
from pipeline.clip_tokens import Tokens

texts = st.lists(st.sampled_from(["hat", "Red_hat", "^_^", "a man, who", "é", "日本", ":3", "1.5", "", " ", ", ", ","]))


@given(st.lists(texts.map(", ".join) | st.text(max_size=30), max_size=8))
def test_a_captions_tokens_are_those_of_its_pieces(captions):
    chunks = Cutter()(pa.array(captions, pa.string()))
    assert chunks.tokens.tolist() == [Tokens.load().count(text) for text in captions]


def test_phrases_are_found_as_whole_words():
    captions = ["smith, red hat", "blacksmith, hats", "a Smith's red_hat", "red, hat", "^_^, =_=", "bored hat red"]
    chunks = Cutter()(pa.array(captions))

    def having(phrase):
        return [n for n, yes in enumerate(chunks.captions(chunks.holding(phrase), len(captions))) if yes]

    assert having("smith") == [0, 2]
    assert having("red hat") == [0, 2]
    assert having("hat") == [0, 2, 3, 5]
    assert having("^_^") == [4]
    assert having("red hats") == []
    assert having("nobody") == having("hats red") == []


def test_a_cutter_forgets_when_it_knows_too_much(monkeypatch):
    monkeypatch.setattr("pipeline.checks.chunks._KNOWN", 2)
    cutter = Cutter()
    for start in range(0, 12, 3):
        chunks = cutter(pa.array([f"w{start}, w{start + 1}, w{start + 2}"]))
        assert [chunk.plain for chunk in chunks.distinct] == [f"w{start + n}" for n in range(3)]
    assert len(cutter.known) == 3
