"""Captions cut at their commas: each distinct piece is looked at once, however many captions have it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.clip_tokens import Tokens
from pipeline.spelling import plain

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_KNOWN = 200_000  # pieces remembered from page to page: some 60 MB
_WORD = re.compile(r"\w+")
_PEOPLE = re.compile(r"([2-9]|1\d)\+?(girls|boys|others)|multiple .*|couple|crowd|everyone|group picture")


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is asked of one piece of a caption."""

    plain: str
    tokens: int  # CLIP's, of the piece alone
    before: int  # CLIP's, of the piece with the comma that ends it
    people: bool  # whether it says that there are several


@dataclass(frozen=True, slots=True)
class Chunks:
    """The pieces of a page's captions: one entry of `rows` and `codes` for each piece of each caption."""

    rows: np.ndarray  # int64: which caption of the page
    codes: np.ndarray  # which of `distinct`
    last: np.ndarray  # bool: whether it ends its caption
    distinct: list[Chunk]
    plains: pa.Array  # the distinct pieces' plain texts

    def mask(self, codes: Iterable[int]) -> np.ndarray:
        """For each distinct piece whether it is among `codes`."""
        import numpy as np

        found = np.zeros(len(self.distinct), bool)
        found[list(codes)] = True
        return found

    def holding(self, phrase: str) -> np.ndarray:
        """For each distinct piece whether it holds a phrase: all of it, as whole words."""
        import pyarrow.compute as pc

        wanted = plain(phrase)
        if not _WORD.search(wanted):  # a face such as ^_^ has no words: only the piece itself is it
            found: np.ndarray = pc.equal(self.plains, wanted).to_numpy(zero_copy_only=False)
            return found
        near = pc.match_substring(self.plains, wanted).to_numpy(zero_copy_only=False).nonzero()[0]
        whole = re.compile(rf"(?<!\w){re.escape(wanted)}(?!\w)")
        return self.mask(code for code in near.tolist() if whole.search(self.distinct[code].plain))

    def captions(self, chosen: np.ndarray, count: int) -> np.ndarray:
        """For each of `count` captions whether it has one of the chosen distinct pieces."""
        import numpy as np

        found = np.zeros(count, bool)
        found[self.rows[chosen[self.codes]]] = True
        return found

    def tokens(self, count: int) -> np.ndarray:
        """CLIP's tokens of each of `count` captions.

        No token holds a space, and pieces end before one: so a caption has the sum of its pieces' tokens.
        """
        import numpy as np

        alone, before = (np.array([getattr(chunk, name) for chunk in self.distinct]) for name in ("tokens", "before"))
        each = np.where(self.last, alone[self.codes], before[self.codes])
        return np.bincount(self.rows, each, count).astype(np.int64)


@dataclass(slots=True)
class Cutter:
    """Cuts captions into pieces, and remembers what it has looked at."""

    known: dict[str, Chunk] = field(default_factory=dict)

    def __call__(self, captions: pa.Array) -> Chunks:
        """The pieces of some captions, at ', '."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        lists = pc.split_pattern(pc.fill_null(captions, ""), ", ")
        encoded = pc.dictionary_encode(pc.list_flatten(lists))
        rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False).astype(np.int64)
        last = np.append(rows[1:] != rows[:-1], True) if len(rows) else np.zeros(0, bool)
        distinct = self._look(encoded.dictionary.to_pylist())
        plains = pa.array([chunk.plain for chunk in distinct], pa.string())
        return Chunks(rows, encoded.indices.to_numpy(zero_copy_only=False), last, distinct, plains)

    def _look(self, texts: list[str]) -> list[Chunk]:
        if len(self.known) > _KNOWN:
            self.known.clear()
        new = [text for text in texts if text not in self.known]
        tokens = Tokens.load()
        # A comma is a token of its own, unless the piece ends in a sign that it makes one with, as :) does.
        odd = [text for text in new if not text[-1:].isalnum()]
        together = dict(zip(odd, tokens.counts([f"{text}," for text in odd]), strict=True))
        for text, alone in zip(new, tokens.counts(new), strict=True):
            shown = plain(text.replace("\\", ""))
            before = together.get(text, alone + 1)
            self.known[text] = Chunk(shown, alone, before, bool(_PEOPLE.fullmatch(shown)))
        return [self.known[text] for text in texts]
