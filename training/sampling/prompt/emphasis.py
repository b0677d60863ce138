"""Emphasis: (word), ((word)), [word] and (word:1.5) weight the text between brackets; a backslash makes one literal."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

FACTOR = 1.1  # a pair of round brackets multiplies the weight by it; square ones divide
BREAK = "BREAK"  # as a word of its own outside of brackets: a new chunk begins
_BREAK_WEIGHT = -1.0  # brackets around BREAK change it, and BREAK then is an ordinary word

_SIGN = re.compile(r"\\(?P<escaped>[()\[\]\\]?)|:\s*(?P<weight>[+-]?[.\d]+)\s*\)|(?P<bracket>[()\[\]])|:|[^\\()\[\]:]+")
_BREAK = re.compile(r"\s*\bBREAK\b\s*")


@dataclass(frozen=True, slots=True)
class WeightedText:
    """A part of a text with one weight."""

    text: str
    weight: float

    @property
    def is_break(self) -> bool:
        """Whether the part stands for the end of a chunk."""
        return self.text == BREAK and self.weight == _BREAK_WEIGHT


def parse_emphasis(text: str, breaks: bool = True) -> list[WeightedText]:
    """Split a text into parts of one weight each, without the brackets; never empty.

    Weights of nested brackets multiply. A bracket that is never closed reaches to the end of the text; one that was
    never opened is literal. Without `breaks` the word BREAK has no meaning. As parse_prompt_attention of
    AUTOMATIC1111's WebUI, which kohya's scripts and many others share.
    """
    parts: list[WeightedText] = []
    open_at: dict[str, list[int]] = {"(": [], "[": []}  # where the content of each open bracket begins in `parts`

    def multiply(begin: int, factor: float) -> None:
        parts[begin:] = [replace(part, weight=part.weight * factor) for part in parts[begin:]]

    for sign in _SIGN.finditer(text):
        bracket, weight = sign["bracket"] or "", _number(sign["weight"])
        if sign["escaped"] is not None:
            parts.append(WeightedText(sign["escaped"], 1.0))
        elif bracket and bracket in "([":
            open_at[bracket].append(len(parts))
        elif weight is not None and open_at["("]:
            multiply(open_at["("].pop(), weight)
        elif sign["weight"] and open_at["("]:  # such as 1.2.3: text, and a bracket
            parts.append(WeightedText(sign[0].rstrip(")"), 1.0))
            multiply(open_at["("].pop(), FACTOR)
        elif bracket == ")" and open_at["("]:
            multiply(open_at["("].pop(), FACTOR)
        elif bracket == "]" and open_at["["]:
            multiply(open_at["["].pop(), 1 / FACTOR)
        else:
            parts += _words(sign[0], breaks)
    for begin in open_at["("]:
        multiply(begin, FACTOR)
    for begin in open_at["["]:
        multiply(begin, 1 / FACTOR)
    return _merge_equal(parts) or [WeightedText("", 1.0)]


def unpaired_bracket(text: str) -> str:
    """The first bracket of a text without a partner; empty if all pair, in whichever order."""
    open_at: dict[str, list[int]] = {"(": [], "[": []}
    for sign in _SIGN.finditer(text):
        bracket = ")" if sign["weight"] else sign["bracket"] or ""
        if bracket in ("(", "["):
            open_at[bracket].append(sign.start())
        elif bracket:
            partner = "(" if bracket == ")" else "["
            if not open_at[partner]:
                return bracket
            open_at[partner].pop()
    return (
        min((begins[0], bracket) for bracket, begins in open_at.items() if begins)[1] if any(open_at.values()) else ""
    )


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _words(text: str, breaks: bool) -> list[WeightedText]:
    """A text without brackets as parts, split at the word BREAK."""
    if not breaks:
        return [WeightedText(text, 1.0)]
    first, *others = _BREAK.split(text)
    parts = [WeightedText(first, 1.0)]
    for other in others:
        parts += [WeightedText(BREAK, _BREAK_WEIGHT), WeightedText(other, 1.0)]
    return parts


def _merge_equal(parts: list[WeightedText]) -> list[WeightedText]:
    """Merge neighbors of equal weight."""
    whole: list[WeightedText] = []
    for part in parts:
        if whole and whole[-1].weight == part.weight:
            whole[-1] = WeightedText(whole[-1].text + part.text, part.weight)
        else:
            whole.append(part)
    return whole
