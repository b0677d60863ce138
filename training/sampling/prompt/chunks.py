"""Chunks: the tokens of a prompt in groups of 75, each of which the text encoder reads as a prompt of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.clip_tokens import WINDOW
from training.sampling.prompt.emphasis import WeightedText

COMMA_WINDOW = 20  # tokens before the end of a full chunk in which a comma may end it


@dataclass(frozen=True, slots=True)
class EmbeddingMatch:
    """An embedding that is named at some position of a text."""

    name: str
    tokens: int  # that its name takes in the text
    vectors: int  # that it has


class FindEmbedding(Protocol):
    def __call__(self, tokens: Sequence[int], at: int) -> EmbeddingMatch | None:
        """The embedding whose name stands at a position of a tokenized text."""


@dataclass(frozen=True, slots=True)
class PlacedEmbedding:
    """Where the vectors of an embedding go."""

    at: int  # the token of the chunk, from 0, that the first vector replaces
    name: str
    vectors: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """At most 75 tokens with the weight of each, without start and end token."""

    tokens: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    embeddings: tuple[PlacedEmbedding, ...] = ()

    def ids(self, start: int, end: int, pad: int) -> list[int]:
        """The 77 token ids that the encoder gets: after the first end token all are padding."""
        row = [start, *self.tokens, end, *[pad] * (WINDOW - len(self.tokens))]
        first = row.index(end)
        return [*row[: first + 1], *[pad] * (len(row) - first - 1)]

    def factors(self) -> list[float]:
        """The weights of these 77; those of start, end and padding are 1."""
        return [1.0, *self.weights, *[1.0] * (WINDOW + 1 - len(self.weights))]


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """The tokens of a part of a prompt, tokenized alone, and its weight."""

    tokens: Sequence[int]
    part: WeightedText


@dataclass(frozen=True, slots=True)
class Chunks:
    """A prompt in chunks; at least one."""

    chunks: tuple[Chunk, ...]
    count: int  # tokens, with the rest of each chunk that ended early, as WebUI counts them

    @property
    def limit(self) -> int:
        """The number of tokens that these chunks hold."""
        return math.ceil(max(self.count, 1) / WINDOW) * WINDOW


@dataclass
class _Builder:
    done: list[Chunk] = field(default_factory=list)
    count: int = 0
    tokens: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    embeddings: list[PlacedEmbedding] = field(default_factory=list)
    comma: int = -1  # where the last comma of the chunk is

    def close(self, length: int = -1) -> None:
        """End the chunk after `length` tokens, or after all; the others begin the next one."""
        cut = len(self.tokens) if length < 0 else length
        own = tuple(placed for placed in self.embeddings if placed.at < cut)
        self.done.append(Chunk(tuple(self.tokens[:cut]), tuple(self.weights[:cut]), own))
        moved = [PlacedEmbedding(placed.at - cut, placed.name, placed.vectors) for placed in self.embeddings]
        self.embeddings = [placed for placed in moved if placed.at >= 0]
        self.tokens, self.weights, self.comma = self.tokens[cut:], self.weights[cut:], -1
        self.count += WINDOW

    def make_room(self, is_comma: bool, comma_window: int) -> None:
        """Before a token: end a full chunk, after its last comma where that is near and the token is none."""
        full = len(self.tokens) == WINDOW
        if is_comma:
            self.comma = len(self.tokens)
        elif full and self.comma >= 0 and len(self.tokens) - self.comma <= comma_window:
            self.close(self.comma + 1)
        if len(self.tokens) == WINDOW:
            self.close()

    def add(self, tokens: Sequence[int], weight: float) -> None:
        self.tokens += tokens
        self.weights += [weight] * len(tokens)

    def add_embedding(self, found: EmbeddingMatch, weight: float) -> None:
        """Placeholders for its vectors, all in one chunk."""
        if len(self.tokens) + found.vectors > WINDOW:
            self.close()
        self.embeddings.append(PlacedEmbedding(len(self.tokens), found.name, found.vectors))
        self.add([0] * found.vectors, weight)


def no_embeddings(tokens: Sequence[int], at: int) -> EmbeddingMatch | None:
    """For prompts in which no embedding can be named."""
    return None


def make_chunks(
    texts: Sequence[TokenizedText], comma: int, find: FindEmbedding = no_embeddings, comma_window: int = COMMA_WINDOW
) -> Chunks:
    """The chunks of a prompt from its parts; `comma` is the token id of a comma; -1: there is none.

    The word BREAK ends a chunk. A full chunk ends after its last comma if that is among its last `comma_window` tokens
    and the next token is no comma. The vectors of an embedding stay in one chunk. As AUTOMATIC1111's WebUI 1.10, with
    one difference: an embedding after that comma moves to the next chunk with the text around it.
    """
    builder = _Builder()
    for text in texts:
        if text.part.is_break:
            builder.close()
            continue
        at = 0
        while at < len(text.tokens):
            builder.make_room(text.tokens[at] == comma, comma_window)
            found = find(text.tokens, at)
            if found:
                builder.add_embedding(found, text.part.weight)
            else:
                builder.add([text.tokens[at]], text.part.weight)
            at += found.tokens if found else 1
    if builder.tokens or not builder.done:
        rest = len(builder.tokens)
        builder.close()
        builder.count += rest - WINDOW
    return Chunks(tuple(builder.done), builder.count)
