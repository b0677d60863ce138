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
_SPACES = r"[\s\p{Z}]+"  # where CLIP's tokens end in any case
_WORD = re.compile(r"\w+")
_PEOPLE = re.compile(r"([2-9]|1\d)\+?(girls|boys|others)|multiple .*|couple|crowd|everyone|group picture")


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is asked of one piece of a caption."""

    plain: str
    people: bool  # whether it says that there are several


@dataclass(frozen=True, slots=True)
class Chunks:
    """The pieces of a page's captions: one entry of `rows` and `codes` for each piece of each caption."""

    rows: np.ndarray  # int64: which caption of the page
    codes: np.ndarray  # which of `distinct`
    tokens: np.ndarray  # int64: CLIP's of each caption
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


@dataclass(slots=True)
class Cutter:
    """Cuts captions into pieces, and remembers what it has looked at."""

    known: dict[str, Chunk] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)  # CLIP's tokens by word

    def __call__(self, captions: pa.Array) -> Chunks:
        """The pieces of some captions, at ', '."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        captions = pc.fill_null(captions, "")
        lists = pc.split_pattern(captions, ", ")
        encoded = pc.dictionary_encode(pc.list_flatten(lists))
        rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False).astype(np.int64)
        distinct = self._look(encoded.dictionary.to_pylist())
        plains = pa.array([chunk.plain for chunk in distinct], pa.string())
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        return Chunks(rows, codes, self._tokens(captions), distinct, plains)

    def _look(self, texts: list[str]) -> list[Chunk]:
        if len(self.known) > _KNOWN:
            self.known.clear()
        for text in texts:
            if text not in self.known:
                shown = plain(text.replace("\\", ""))
                self.known[text] = Chunk(shown, bool(_PEOPLE.fullmatch(shown)))
        return [self.known[text] for text in texts]

    def _tokens(self, captions: pa.Array) -> np.ndarray:
        """CLIP's tokens of each caption: the sum of its words', since no token holds a space.

        Words are few however many captions there are; sentences are not.
        """
        import numpy as np
        import pyarrow.compute as pc

        lists = pc.split_pattern_regex(captions, _SPACES)
        encoded = pc.dictionary_encode(pc.list_flatten(lists))
        words = encoded.dictionary.to_pylist()
        if len(self.lengths) > _KNOWN:
            self.lengths.clear()
        new = [word for word in words if word not in self.lengths]
        self.lengths |= dict(zip(new, Tokens.load().counts(new), strict=True))
        each = np.array([self.lengths[word] for word in words], np.int64)[
            encoded.indices.to_numpy(zero_copy_only=False)
        ]
        rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
        return np.bincount(rows, each, len(captions)).astype(np.int64)
