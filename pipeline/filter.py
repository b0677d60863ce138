"""The filter language, which selects images by tags, scores, roles and names with AND, OR, NOT and parentheses."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import get_args

from pipeline.errors import PrepError
from pipeline.filter_terms import WORDS, And, Expr, FilterView, Not, Or, Term
from pipeline.record import Record, Role
from pipeline.tag_text import escape_control, normalize_tag

_MAX_DEPTH = 50  # of nested parentheses
_PHRASE = 8  # most words of a tag that is found without quotes
_ROLES = get_args(Role)
_KEYS = {  # keys before a colon, with an example
    "score": "score:beard<0.5",
    "subject": "subject:smith",
    "class": "class:man",
    "role": "role:reg",
    "flag": "flag:unsure",
    "caption": 'caption:"a man"',
    "name": "name:*.jpg",
    "tagger": "tagger:wd14",
    "id": "id:0a1b*",
}
_KEY = re.compile(r"([A-Za-z_]\w*):")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BOUND = re.compile(r"(\S*?)(<=|>=|<|>|=)(\d+(?:\.\d*)?|\.\d+)(?=[\s()]|$)")


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on images; without an expression it matches all. Parsing its text gives the same filter."""

    part: Expr | None = None

    def matches(self, record: Record) -> bool:
        """Whether a record matches, with the edits that its manifest records."""
        return self.part is None or self.part(FilterView.of(record))

    def sees(self, view: FilterView) -> bool:
        """Whether a record matches, with the tags and edits that the caller provides."""
        return self.part is None or self.part(view)

    def asks(self, key: str) -> bool:
        """Whether the filter has a condition of this name, such as 'dropped'."""
        return any(term.key == key for term in _terms(self.part))

    def __str__(self) -> str:
        return str(self.part or "")


def parse(text: str, known_tags: Collection[str] = ()) -> Filter:
    """Parse a filter; PrepError says what is wrong and where.

    Consecutive words mean AND, unless they are together one of the normalized `known_tags`. NOT binds strongest,
    then AND, then OR; case does not matter.
    """
    reader = _Reader(text, known_tags)
    part = None if reader.done else reader.any_of(0)
    if not reader.done:
        raise reader.error("a closing parenthesis has no opening one")
    return Filter(part)


class _Reader:
    """A recursive descent parser."""

    def __init__(self, text: str, known_tags: Collection[str] = ()) -> None:
        self.text = text
        self.known_tags = known_tags
        self.at = 0
        self._skip()

    @property
    def done(self) -> bool:
        return self.at == len(self.text)

    def any_of(self, depth: int) -> Expr:
        parts = [self.all_of(depth)]
        while self._operator("OR"):
            parts.append(self.all_of(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(_flat(parts, Or)))

    def all_of(self, depth: int) -> Expr:
        parts = [self.operand(depth)]
        while self._operator("AND") or not (self.done or self._next(")") or self._operator("OR", take=False)):
            parts.append(self.operand(depth))
        return parts[0] if len(parts) == 1 else And(tuple(_flat(parts, And)))

    def operand(self, depth: int) -> Expr:
        negated = False
        while self._operator("NOT"):
            negated = not negated
        if depth > _MAX_DEPTH:
            raise self.error(f"more than {_MAX_DEPTH} parentheses are open")
        if self.done or self._next(")") or any(self._operator(word, take=False) for word in ("AND", "OR")):
            raise self.error("a tag or a condition is missing")
        if self._next("("):
            self._move(1)
            part = self.any_of(depth + 1)
            if not self._next(")"):
                raise self.error("a parenthesis is not closed")
            self._move(1)
        else:
            part = self.term()
        if negated:
            return part.part if isinstance(part, Not) else Not(part)
        return part

    def term(self) -> Term:
        """A tag, a word such as 'dropped', or KEY:VALUE."""
        if self._next('"'):
            return Term("tag", self._quoted(), quoted=True)
        key = _KEY.match(self.text, self.at)
        if not key:
            if phrase := self._phrase():
                return Term("tag", phrase, quoted=True)
            word = self._word()
            return Term(word.lower()) if word.lower() in WORDS else Term("tag", word)
        name = key[1].lower()
        if name not in _KEYS:
            close = difflib.get_close_matches(name, _KEYS, n=1)
            meant = f"Did you mean {close[0]}:? " if close else f"Known: {', '.join(f'{k}:' for k in _KEYS)}. "
            raise self.error(f"{key[0]!r} is unknown", f"{meant}A tag with a colon needs quotes.")
        self.at = key.end()
        return self._score() if name == "score" else self._value(name)

    def _value(self, name: str) -> Term:
        quoted = self._next('"')
        text = "" if self.done else self._quoted() if quoted else self._word()
        if not text:
            raise self.error(f"{name}: needs a value", f"For example {_KEYS[name]}.")
        if name == "role" and text.lower() not in _ROLES:
            raise self.error(f"there is no role {text!r}", f"It must be one of: {', '.join(_ROLES)}.")
        return Term(name, text, quoted)

    def _score(self) -> Term:
        """score:TAG<0.5, the tag in quotes or not."""
        name = self._quoted(skip=False) if self._next('"') else ""
        found = _BOUND.match(self.text, self.at)
        if not found or bool(found[1]) == bool(name) or float(found[3]) > 1:
            raise self.error("score: needs a tag and a number from 0 to 1", f"For example {_KEYS['score']}.")
        self._move(found.end() - self.at)
        return Term("score", name or found[1], bool(name), found[2], round(float(found[3]), 6))

    def _quoted(self, skip: bool = True) -> str:
        found = _QUOTED.match(self.text, self.at)
        if not found:
            raise self.error("a quote is not closed")
        self.at = found.end()
        if skip:
            self._skip()
        text = re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL)
        if not text.strip():
            raise self.error("the quotes are empty")
        return text

    def _word(self) -> str:
        """A word ends at a space or at the parenthesis that closes a group; cat_(animal) is one word."""
        start, depth = self.at, 0
        while self.at < len(self.text) and not self.text[self.at].isspace():
            sign = self.text[self.at]
            if sign == ")" and depth == 0:
                break
            depth += {"(": 1, ")": -1}.get(sign, 0)
            self.at += 1
        word = self.text[start : self.at]
        self._skip()
        return word

    def _phrase(self) -> str:
        """The longest known tag that the next two or more words are; empty, and nothing is read, if there is none."""
        start, words, ends = self.at, list[str](), list[int]()
        while not (self.done or self._next(")") or self._next('"') or len(words) == _PHRASE):
            if any(self._operator(word, take=False) for word in ("AND", "OR", "NOT")):
                break
            words.append(self._word())
            ends.append(self.at)
        for count in range(len(words), 1, -1):
            phrase = " ".join(words[:count])
            if normalize_tag(phrase) in self.known_tags:
                self.at = ends[count - 1]
                return phrase
        self.at = start
        return ""

    def _operator(self, word: str, take: bool = True) -> bool:
        """Whether AND, OR or NOT comes next; it ends at a space or a parenthesis."""
        end = self.at + len(word)
        found = self.text[self.at : end].upper() == word and (self.text[end : end + 1] or " ") in "() \t\r\n"
        if found and take:
            self._move(len(word))
        return found

    def _next(self, sign: str) -> bool:
        return self.text.startswith(sign, self.at)

    def _move(self, by: int) -> None:
        self.at += by
        self._skip()

    def _skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def error(self, wrong: str, hint: str = "") -> PrepError:
        rest = escape_control(self.text[self.at : self.at + 20])
        where = f"before {rest!r}" if rest else "at its end"
        return PrepError(
            f"The filter is wrong {where}: {wrong}.", hint or "For example: beard AND NOT (hat OR role:reg)"
        )


def _flat(parts: Iterable[Expr], kind: type[And] | type[Or]) -> Iterator[Expr]:
    """The parts, with nested ones of the same kind flattened."""
    for part in parts:
        yield from part.parts if isinstance(part, And | Or) and isinstance(part, kind) else (part,)


def _terms(part: Expr | None) -> Iterator[Term]:
    """All terms of an expression."""
    match part:
        case Term():
            yield part
        case Not():
            yield from _terms(part.part)
        case And() | Or():
            for inner in part.parts:
                yield from _terms(inner)
