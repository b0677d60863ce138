"""Ranks by block: the text that gives them, the blocks that a path is in, and the sizes that come of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PrepError
from training.methods.block_ranks import RankAlpha, blocks_of, check_blocks, read_block_ranks, size_modules

PATHS = [
    "down_blocks.0.attentions.0.proj_in",
    "down_blocks.1.attentions.0.proj_in",
    "mid_block.attentions.0.proj_in",
    "up_blocks.3.attentions.2.proj_out",
    "time_embedding.linear_1",
]


@given(st.dictionaries(st.from_regex(r"(down|up)\.[0-9]{1,2}|mid", fullmatch=True), st.integers(0, 1024)))
def test_written_and_read(ranks):
    assert read_block_ranks(" , ".join(f"{block} = {rank}" for block, rank in ranks.items())) == ranks


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("down", "'down' is not a block and its rank"),
        ("down=4, =3", "'=3' is not a block and its rank"),
        ("down=-1", "'down=-1' is not"),
        ("down=x\n", "'down=x' is not"),
        ("down=²", "is not a block and its rank"),
        ("mid=1025", "1025 is too large a rank"),
        ("mid=4, mid=5", "names 'mid' twice"),
    ],
)
def test_what_is_no_rank(text, said):
    with pytest.raises(PrepError, match=said):
        read_block_ranks(text)


def test_blocks_of_paths():
    assert [blocks_of(path) for path in PATHS] == [
        ("down", "down.0"),
        ("down", "down.1"),
        ("mid",),
        ("up", "up.3"),
        (),
    ]
    assert blocks_of("transformer_blocks.7.ff.net.2") == ("transformer", "transformer.7")


def test_the_narrowest_block_counts():
    sizes = size_modules(PATHS, RankAlpha(8, 4.0), {"down": 0.5, "down.1": 2.0, "up.3": 0.0})
    assert sizes == {
        PATHS[0]: RankAlpha(4, 2.0),
        PATHS[1]: RankAlpha(16, 8.0),
        PATHS[2]: RankAlpha(8, 4.0),
        PATHS[4]: RankAlpha(8, 4.0),
    }
    assert {size.alpha / size.rank for size in sizes.values()} == {0.5}


def test_unknown_blocks():
    check_blocks(["down", "down.1", "mid"], PATHS)
    with pytest.raises(PrepError, match=r"no block 'dwon\.1'") as caught:
        check_blocks(["dwon.1"], PATHS)
    assert "Did you mean down.1?" in str(caught.value)
    with pytest.raises(PrepError) as caught:
        check_blocks(["7"], PATHS)
    assert "It has down, down.0, down.1, mid, up, up.3." in str(caught.value)
