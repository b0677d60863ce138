"""Composition: the parts of a prompt joined by AND, each with a weight (https://arxiv.org/abs/2206.01714)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"[-+]?(?:\d+\.?|\d*\.\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class PromptPart:
    """A part of a prompt, and the factor of its share in the guidance."""

    text: str
    weight: float


def split_parts(prompt: str) -> tuple[PromptPart, ...]:
    """Split a prompt at each AND; a part may end in ': weight', also the only part of a prompt without AND.

    Brackets do not protect: '(a AND b:1.2)' has the parts '(a' and ' b:1.2)'. The guided prediction is
    u + scale * (sum over the parts of weight * (c - u)).
    """
    return tuple(_part(text) for text in _AND.split(prompt))


def _part(text: str) -> PromptPart:
    head, colon, tail = text.rpartition(":")
    if colon and _WEIGHT.fullmatch(tail.strip()):
        return PromptPart(head.rstrip(), float(tail))
    return PromptPart(text.rstrip(), 1.0)
