"""Ranks by block of a U-Net or transformer, as --block-ranks gives them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.errors import PrepError
from pipeline.tag_text import escape_control

_EXAMPLE = "Write, for example: --block-ranks 'down=8, mid=32, up.3=0'"
_HIGHEST = 1024


@dataclass(frozen=True, slots=True)
class RankAlpha:
    """Rank and alpha of a layer's adapter, whose output is scaled by alpha / rank."""

    rank: int
    alpha: float

    def scaled(self, share: float) -> RankAlpha:
        """The same scale, with the rank multiplied by `share`."""
        rank = max(1, round(self.rank * share))
        return RankAlpha(rank, self.alpha * rank / self.rank)


def read_block_ranks(text: str) -> dict[str, int]:
    """Parses 'down=8, up.3=0' into ranks by block; PrepError names the part that is wrong."""
    ranks: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        block, sign, number = (piece.strip() for piece in part.partition("="))
        if not (block and sign and number.isdecimal() and number.isascii()):
            raise PrepError(f"train: block_ranks: '{escape_control(part)}' is not a block and its rank.", _EXAMPLE)
        if int(number) > _HIGHEST:
            raise PrepError(f"train: block_ranks: {number} is too large a rank.", f"It must be at most {_HIGHEST}.")
        if block in ranks:
            raise PrepError(f"train: block_ranks names '{escape_control(block)}' twice.", "Name it once.")
        ranks[block] = int(number)
    return ranks


def blocks_of(path: str) -> tuple[str, ...]:
    """The blocks that a layer is in, the smallest last.

    'down_blocks.1.attentions.0.proj_in' is in 'down' and 'down.1', 'mid_block.resnets.0.conv1' in
    'mid', 'transformer_blocks.7.ff.net.2' in 'transformer' and 'transformer.7'.
    """
    first, _, rest = path.partition(".")
    for end in ("_blocks", "_block"):
        if first.endswith(end):
            name = first.removesuffix(end)
            number = rest.partition(".")[0]
            return (name, f"{name}.{number}") if number.isdecimal() else (name,)
    return ()


def check_blocks(ranks: Iterable[str], paths: Iterable[str]) -> None:
    """Raise PrepError when none of the layers is in a named block."""
    known = list(dict.fromkeys(block for path in paths for block in blocks_of(path)))
    for block in ranks:
        if block not in known:
            near = difflib.get_close_matches(block, known, 1)
            raise PrepError(
                f"train: block_ranks: the base model has no block '{escape_control(block)}' that adapters go into.",
                f"Did you mean {near[0]}?" if near else f"It has {', '.join(known)}.",
            )


def size_modules(paths: Iterable[str], size: RankAlpha, shares: dict[str, float]) -> dict[str, RankAlpha]:
    """The size of each layer's adapter: `size` times the share of the smallest block of the layer in `shares`.

    Layers with a share of 0 get no adapter.
    """
    found = {}
    for path in paths:
        share = next((shares[block] for block in reversed(blocks_of(path)) if block in shares), 1.0)
        if share:
            found[path] = size.scaled(share)
    return found
