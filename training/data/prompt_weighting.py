"""Prompt weighting as in WebUI: (word), ((word)), [word], (word:1.5), and \\( for a literal bracket."""

from __future__ import annotations

import re
from dataclasses import dataclass

BRACKET_FACTOR = 1.1  # a pair of round brackets multiplies the weight by it; square ones divide
_SIGN = re.compile(r"\\(?P<literal>[()\[\]\\])|:\s*(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\s*\)|(?P<bracket>[()\[\]])")


@dataclass(frozen=True, slots=True)
class WeightedText:
    """A part of a text with one weight."""

    text: str
    weight: float


def parse_weights(text: str) -> list[WeightedText]:
    """Split a text into parts of one weight each, without the brackets; brackets that do not pair are literal.

    Weights of nested brackets multiply. https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/Features#attentionemphasis
    """
    done: list[WeightedText] = []
    open_at: list[tuple[str, int]] = []  # the bracket, and where its content begins in `done`
    at = 0
    for sign in _SIGN.finditer(text):
        _add(done, text[at : sign.start()])
        at = sign.end()
        bracket = sign["bracket"] or ""
        if sign["literal"]:
            _add(done, sign["literal"])
        elif bracket and bracket in "([":
            open_at.append((bracket, len(done)))
            done.append(WeightedText(bracket, 1.0))  # removed when the bracket is closed
        elif open_at and open_at[-1][0] == ("[" if bracket == "]" else "("):
            _, begin = open_at.pop()
            factor = (
                float(sign["weight"]) if sign["weight"] else BRACKET_FACTOR if bracket == ")" else 1 / BRACKET_FACTOR
            )
            done[begin:] = [WeightedText(piece.text, piece.weight * factor) for piece in done[begin + 1 :]]
        else:
            _add(done, sign[0])
    _add(done, text[at:])
    return _merge_equal(done)


def _add(pieces: list[WeightedText], text: str) -> None:
    if text:
        pieces.append(WeightedText(text, 1.0))


def _merge_equal(pieces: list[WeightedText]) -> list[WeightedText]:
    """Merge neighbors of equal weight."""
    whole: list[WeightedText] = []
    for piece in pieces:
        if whole and whole[-1].weight == piece.weight:
            whole[-1] = WeightedText(whole[-1].text + piece.text, piece.weight)
        else:
            whole.append(piece)
    return whole
