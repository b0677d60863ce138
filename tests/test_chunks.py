"""Chunks against what AUTOMATIC1111's WebUI 1.10 does with tokens, commas, BREAK and embeddings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.sampling.prompt.chunks import EmbeddingMatch, PlacedEmbedding, TokenizedText, make_chunks
from training.sampling.prompt.emphasis import WeightedText

COMMA, WORD, NAME = 267, 5, 9
BREAK = TokenizedText([], WeightedText("BREAK", -1.0))
START, END = 49406, 49407


def words(count, weight=1.0):
    return TokenizedText([WORD] * count, WeightedText("x", weight))


def comma_at(place, count):
    """So many tokens, with a comma after `place` others."""
    return TokenizedText([WORD] * place + [COMMA] + [WORD] * (count - place - 1), WeightedText("x", 1.0))


def lengths(*texts, **options):
    return [len(chunk.tokens) for chunk in make_chunks(texts, COMMA, **options).chunks]


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        ([], [0]),
        ([words(1)], [1]),
        ([words(75)], [75]),
        ([words(76)], [75, 1]),
        ([words(151)], [75, 75, 1]),
        ([words(3), BREAK, words(4)], [3, 4]),
        ([BREAK, words(4)], [0, 4]),
        ([words(4), BREAK], [4]),
        ([BREAK], [0]),
        ([comma_at(70, 80)], [71, 9]),
        ([comma_at(55, 80)], [56, 24]),
        ([comma_at(54, 80)], [75, 5]),
        ([comma_at(74, 80)], [75, 5]),
        ([comma_at(70, 75)], [75]),
        ([comma_at(70, 75), TokenizedText([COMMA], WeightedText(",", 1.0))], [75, 1]),
    ],
)
def test_where_chunks_end(texts, wanted):
    assert lengths(*texts) == wanted


def test_without_the_comma_rule():
    assert lengths(comma_at(70, 80), comma_window=0) == [75, 5]


@pytest.mark.parametrize(
    ("texts", "count", "limit"),
    [([], 0, 75), ([words(75)], 75, 75), ([words(76)], 76, 150), ([words(3), BREAK, words(4)], 79, 150)],
)
def test_the_counter(texts, count, limit):
    found = make_chunks(texts, COMMA)
    assert (found.count, found.limit) == (count, limit)


def named(vectors):
    return lambda tokens, at: EmbeddingMatch("emb", 1, vectors) if tokens[at] == NAME else None


def test_an_embedding_stays_whole():
    text = TokenizedText([WORD] * 72 + [NAME, WORD], WeightedText("x", 1.2))
    first, second = make_chunks([text], COMMA, named(4)).chunks
    assert len(first.tokens) == 72
    assert not first.embeddings
    assert second.tokens == (0, 0, 0, 0, WORD)
    assert second.weights == (1.2,) * 5
    assert second.embeddings == (PlacedEmbedding(0, "emb", 4),)


def test_an_embedding_after_the_comma_moves_with_its_tokens():
    text = TokenizedText([WORD] * 70 + [COMMA, NAME, WORD, WORD, WORD], WeightedText("x", 1.0))
    first, second = make_chunks([text], COMMA, named(2)).chunks
    assert (len(first.tokens), first.embeddings) == (71, ())
    assert (second.tokens, second.embeddings) == ((0, 0, WORD, WORD, WORD), (PlacedEmbedding(0, "emb", 2),))


def test_the_77_ids_and_their_weights():
    (chunk,) = make_chunks([words(2, 1.5)], COMMA).chunks
    assert chunk.ids(START, END, END) == [START, WORD, WORD, *[END] * 74]
    assert chunk.ids(START, END, 0) == [START, WORD, WORD, END, *[0] * 73]
    assert chunk.factors() == [1.0, 1.5, 1.5, *[1.0] * 74]


@given(st.lists(st.one_of(st.just(BREAK), st.builds(comma_at, st.integers(0, 40), st.integers(41, 90))), max_size=5))
def test_no_token_is_lost(texts):
    found = make_chunks(texts, COMMA).chunks
    assert [token for chunk in found for token in chunk.tokens] == [token for text in texts for token in text.tokens]
    assert all(len(chunk.tokens) == len(chunk.weights) <= 75 for chunk in found)
