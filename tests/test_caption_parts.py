from __future__ import annotations

import re

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.checks.caption_parts import CaptionSplitter
from pipeline.clip_tokens import Tokens
from pipeline.tag_text import normalize_tag

PIECES = [
    "hat",
    "Red_hat",
    "^_^",
    "a man, who",
    "é",
    "e\u0301",
    "日本",
    ":3",
    "1.5",
    "7\u0301",
    "\u00b2",
    "don't",
    "x.",
]
texts = st.lists(st.sampled_from([*PIECES, "^", "", " ", ", ", ","]))


@given(st.lists(texts.map(", ".join) | st.text(max_size=30), max_size=8))
def test_a_captions_tokens_are_those_of_its_pieces(captions):
    chunks = CaptionSplitter()(pa.array(captions, pa.string()))
    assert chunks.tokens.tolist() == [Tokens.load().count(text) for text in captions]


def test_phrases_are_found_as_whole_words():
    captions = ["smith, red hat", "blacksmith, hats", "a Smith's red_hat", "red, hat", "^_^, =_=", "bored hat red"]
    chunks = CaptionSplitter()(pa.array(captions))

    def having(phrase):
        return [n for n, yes in enumerate(chunks.captions_with(chunks.contains(phrase), len(captions))) if yes]

    assert having("smith") == [0, 2]
    assert having("red hat") == [0, 2]
    assert having("hat") == [0, 2, 3, 5]
    assert having("^_^") == [4]
    assert having("red hats") == []
    assert having("nobody") == having("hats red") == []


@given(st.lists(texts.map(", ".join) | st.text(max_size=20), max_size=8))
def test_pieces_are_spelled_as_everywhere(pieces):
    pieces = [piece.replace(",", ";").replace("\\", "/") for piece in pieces]
    chunks = CaptionSplitter()(pa.array(pieces, pa.string()))
    assert [chunks.texts[code].as_py() for code in chunks.codes] == [normalize_tag(piece) for piece in pieces]


@given(st.text("ab _^.é1Σ", min_size=1, max_size=4), st.lists(st.text("ab _^.é1Σ", max_size=9), min_size=1, max_size=6))
def test_a_phrase_is_found_as_pythons_regular_expressions_find_it(phrase, pieces):
    chunks = CaptionSplitter()(pa.array(pieces, pa.string()))
    wanted = normalize_tag(phrase)
    whole = re.compile(rf"(?<!\w){re.escape(wanted)}(?!\w)") if re.search(r"\w", wanted) else None
    expected = [bool(whole.search(text)) if whole else text == wanted for text in chunks.texts.to_pylist()]
    assert chunks.contains(phrase).tolist() == expected


def test_a_cutter_forgets_when_it_knows_too_much(monkeypatch):
    monkeypatch.setattr("pipeline.checks.caption_parts._CACHED_WORDS", 2)
    cutter = CaptionSplitter()
    for letters in ("abc", "def", "ghi"):
        assert cutter(pa.array([", ".join(letters)])).tokens.tolist() == [5]
    assert set(cutter.lengths) == {"g", "h", "i"}


def test_numbers_are_not_remembered():
    cutter = CaptionSplitter()
    chunks = cutter(pa.array([f"a man of {n}" for n in range(1000)]))
    assert chunks.tokens.tolist() == [3 + len(str(n)) for n in range(1000)]
    assert set(cutter.lengths) == {"a", "man", "of", ""}
