"""Weights in captions, as WebUI's prompts have them: (word), ((word)), [word], (word:1.5), \\( for a bracket."""

from __future__ import annotations

import re
from dataclasses import dataclass

MORE = 1.1  # what a pair of round brackets multiplies by; square ones divide
_SIGN = re.compile(r"\\(?P<plain>[()\[\]\\])|:\s*(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\s*\)|(?P<bracket>[()\[\]])")


@dataclass(frozen=True, slots=True)
class WeightedText:
    """A stretch of text of one weight."""

    text: str
    weight: float


def parse_weights(text: str) -> list[WeightedText]:
    """The text in pieces of one weight each, without the brackets; those that do not pair are plain signs.

    Weights of nested brackets multiply. https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/Features#attentionemphasis
    """
    done: list[WeightedText] = []
    open_at: list[tuple[str, int]] = []  # which bracket, and where its content begins in `done`
    at = 0
    for sign in _SIGN.finditer(text):
        _add(done, text[at : sign.start()])
        at = sign.end()
        bracket = sign["bracket"] or ""
        if sign["plain"]:
            _add(done, sign["plain"])
        elif bracket and bracket in "([":
            open_at.append((bracket, len(done)))
            done.append(WeightedText(bracket, 1.0))  # taken out again when it is closed
        elif open_at and open_at[-1][0] == ("[" if bracket == "]" else "("):
            _, begin = open_at.pop()
            factor = float(sign["weight"]) if sign["weight"] else MORE if bracket == ")" else 1 / MORE
            done[begin:] = [WeightedText(piece.text, piece.weight * factor) for piece in done[begin + 1 :]]
        else:
            _add(done, sign[0])
    _add(done, text[at:])
    return _joined(done)


def _add(pieces: list[WeightedText], text: str) -> None:
    if text:
        pieces.append(WeightedText(text, 1.0))


def _joined(pieces: list[WeightedText]) -> list[WeightedText]:
    """Neighbours of equal weight as one."""
    whole: list[WeightedText] = []
    for piece in pieces:
        if whole and whole[-1].weight == piece.weight:
            whole[-1] = WeightedText(whole[-1].text + piece.text, piece.weight)
        else:
            whole.append(piece)
    return whole
