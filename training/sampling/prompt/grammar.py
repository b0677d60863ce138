"""Parses prompt editing: '[from:to:when]' and '[a|b]', nested in brackets of any kind.

The grammar, where `?` marks what may be missing:

    prompt     = (piece | stray bracket or colon)*        only at the top level a bracket or colon may be stray
    inner      = piece*
    piece      = text | edited | alternating | bracketed
    edited     = "[" (inner ":")? inner ":" number "]"
    alternating= "[" inner ("|" inner)+ "]"
    bracketed  = "(" inner ")" | "(" inner ":" inner ")" | "[" inner "]"
    text       = (any character but \\ [ ] ( ) : |, or a backslash and any character but a line break)+

A bar outside of all alternatives fits nowhere, and neither does a lone backslash at the end: such a prompt has no
structure at all, and every character of it is literal, as in AUTOMATIC1111's WebUI. Where several readings are
possible, a bracket begins the first structure that it can begin, from left to right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TEXT = re.compile(r"(?:[^\\\[\]():|]|\\.)+")
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?)\s*\]", re.ASCII)
_DEEPEST = 100  # brackets in brackets; deeper ones are literal


@dataclass(frozen=True, slots=True)
class Edited:
    """Text that is replaced by another one in the course of sampling."""

    before: Sequence
    after: Sequence
    when: str  # as written: a number with a dot is a share of all evaluations


@dataclass(frozen=True, slots=True)
class Alternating:
    """Texts that take turns."""

    choices: tuple[Sequence, ...]


Piece = str | Edited | Alternating
Sequence = tuple[Piece, ...]


def parse_editing(text: str) -> Sequence | None:
    """The pieces of a prompt, with brackets of emphasis as text; None where the prompt has no valid structure."""
    return _Parser(text).prompt()


class _Parser:
    """Recursive descent; what begins at a position is parsed once, so that time grows in proportion to the text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.known: dict[int, tuple[Sequence, int] | None] = {}

    def prompt(self) -> Sequence | None:
        pieces: list[Piece] = []
        at = 0
        while at < len(self.text):
            found = self.inner(at, 0)
            pieces += found[0]
            at = found[1]
            if at < len(self.text):
                if self.text[at] not in "[]():":
                    return None
                pieces.append(self.text[at])
                at += 1
        return tuple(pieces)

    def inner(self, at: int, depth: int) -> tuple[Sequence, int]:
        """The longest row of pieces from `at`, and where it ends."""
        pieces: list[Piece] = []
        while at < len(self.text):
            if self.text[at] in "[(":
                found = self.bracket(at, depth)
                if found is None:
                    break
                pieces += found[0]
                at = found[1]
            elif text := _TEXT.match(self.text, at):
                pieces.append(text[0])
                at = text.end()
            else:
                break
        return tuple(pieces), at

    def bracket(self, at: int, depth: int) -> tuple[Sequence, int] | None:
        """What the bracket at `at` begins, and where that ends; None if it has no partner or holds something else."""
        if at not in self.known:
            if depth == _DEEPEST:
                return None
            self.known[at] = (self.square if self.text[at] == "[" else self.round)(at + 1, depth + 1)
        return self.known[at]

    def round(self, at: int, depth: int) -> tuple[Sequence, int] | None:
        first, end = self.inner(at, depth)
        if self.text[end : end + 1] == ":":
            second, end = self.inner(end + 1, depth)
            first = (*first, ":", *second)
        return (("(", *first, ")"), end + 1) if self.text[end : end + 1] == ")" else None

    def square(self, at: int, depth: int) -> tuple[Sequence, int] | None:
        first, end = self.inner(at, depth)
        mark = self.text[end : end + 1]
        if mark == "]":
            return ("[", *first, "]"), end + 1
        if mark == "|":
            return self.alternating(first, end, depth)
        if mark != ":":
            return None
        if number := _NUMBER.match(self.text, end + 1):
            return (Edited((), first, number[1]),), number.end()
        second, end = self.inner(end + 1, depth)
        if self.text[end : end + 1] == ":" and (number := _NUMBER.match(self.text, end + 1)):
            return (Edited(first, second, number[1]),), number.end()
        return None

    def alternating(self, first: Sequence, end: int, depth: int) -> tuple[Sequence, int] | None:
        choices = [first]
        while self.text[end : end + 1] == "|":
            choice, end = self.inner(end + 1, depth)
            choices.append(choice)
        return ((Alternating(tuple(choices)),), end + 1) if self.text[end : end + 1] == "]" else None
