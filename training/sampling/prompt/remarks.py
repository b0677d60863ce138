"""Remarks on prompts: what in them is read in another way than it was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterator

from training.sampling.prompt.composition import split_parts
from training.sampling.prompt.emphasis import BREAK, parse_emphasis, unpaired_bracket
from training.sampling.prompt.grammar import parse_editing
from training.sampling.prompt.networks import take_networks

_LIKE_EDITING = re.compile(r"\[[^\]]*[:|][^\]]*\]")
_DECIMAL_COMMA = re.compile(r":\s*[+-]?\d+,\d+\s*\)")


def remark_on_prompt(prompt: str) -> str:
    """One sentence on a prompt whose signs do not mean what they seem to; empty if there is none to make."""
    networks = take_networks(prompt)
    texts = [part.text for part in split_parts(networks.text)]
    unknown = [f"{tag} names no kind of network that prep knows, and is left out" for tag in networks.unknown]
    return _sentence([*unknown, *(fault for text in texts for fault in _faults(text))])


def remark_on_negative(negative: str) -> str:
    """The same for a negative prompt, in which networks and AND are text."""
    faults = list(_faults(negative))
    if len(split_parts(negative)) > 1:
        faults.append("AND is a word like any other in a negative prompt")
    if take_networks(negative).networks:
        faults.append("networks have no effect in a negative prompt: name them in the prompt")
    return _sentence(faults)


def _faults(text: str) -> Iterator[str]:
    if bracket := unpaired_bracket(text):
        open_ = bracket in "(["
        yield f"the bracket {bracket} is never closed" if open_ else f"the bracket {bracket} was never opened"
    if parse_editing(text) is None and _LIKE_EDITING.search(text):
        why = "a bar outside of square brackets" if "|" in text else "a backslash at its end"
        yield f"it holds {why}, so that [from:to:when] and [a|b] in it are text"
    if _DECIMAL_COMMA.search(text):
        yield "a weight is written with a dot, as 1.2; with a comma it is text"
    if any(BREAK in part.text.split() for part in parse_emphasis(text) if not part.is_break):
        yield "BREAK inside of brackets is a word like any other"


def _sentence(faults: list[str]) -> str:
    distinct = list(dict.fromkeys(faults))
    return "; ".join(distinct)
