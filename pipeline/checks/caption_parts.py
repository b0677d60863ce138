"""Splits captions at commas, so that each distinct part is examined once, however many captions have it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.clip_tokens import Tokens
from pipeline.tag_text import normalize_column, normalize_tag

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_CACHED_WORDS = 200_000  # words whose token counts are cached: about 30 MB
# Where CLIP's tokens always end. Each digit is one token, so numbers need not be cached as words.
_BREAKS = r"[\s\p{Z}0-9]+"
_ENDS_WITH_PUNCTUATION = r"[^\s\p{Z}\p{L}\p{N}]$"
_WORD = re.compile(r"\w+")
# A part of a sentence: it has a word that tags do not have, or more words than a tag.
_SENTENCE = r"(?:^|\s)(?:a|an|the|is|are|was|were|has|have|his|her|their|its|who|with|wears|wearing)\s|(?:\S+\s+){6}"
_PEOPLE = r"^((?:[2-9]|1\d)\+?(?:girls|boys|others)|multiple .*|couple|crowd|everyone|group image)$"


@dataclass(frozen=True, slots=True)
class CaptionParts:
    """The parts of a page's captions: one entry of `rows` and `codes` for each part of each caption."""

    rows: np.ndarray  # int64, ascending: which caption of the page
    codes: np.ndarray  # which of `texts`
    tokens: np.ndarray  # int64: number of CLIP tokens of each caption
    texts: pa.Array  # the distinct parts, as pipeline.tag_text.normalize_tag spells them

    def contains(self, phrase: str) -> np.ndarray:
        """For each distinct part whether it contains a phrase, as whole words."""
        import numpy as np
        import pyarrow.compute as pc

        wanted = normalize_tag(phrase)
        if not _WORD.search(wanted):  # a kaomoji such as ^_^ has no words: the part must equal it
            found: np.ndarray = pc.equal(self.texts, wanted).to_numpy(zero_copy_only=False)
            return found
        found = pc.match_substring(self.texts, wanted).to_numpy(zero_copy_only=False)
        near = np.flatnonzero(found)
        whole = rf"(?:^|[^\p{{L}}\p{{N}}_]){_escaped(wanted)}(?:[^\p{{L}}\p{{N}}_]|$)"
        found = found.copy()
        found[near] = pc.match_substring_regex(self.texts.take(near), whole).to_numpy(zero_copy_only=False)
        return found

    def names(self, tag: str) -> np.ndarray:
        """For each distinct part whether it is a tag, or a sentence with its words: 'straw hat' does not name 'hat'."""
        import pyarrow.compute as pc

        part_is_tag = pc.equal(self.texts, normalize_tag(tag)).to_numpy(zero_copy_only=False)
        sentences = pc.match_substring_regex(self.texts, _SENTENCE).to_numpy(zero_copy_only=False)
        found: np.ndarray = part_is_tag | (sentences & self.contains(tag))
        return found

    def several_people(self) -> np.ndarray:
        """For each distinct part whether it names several people."""
        import pyarrow.compute as pc

        found: np.ndarray = pc.match_substring_regex(self.texts, _PEOPLE).to_numpy(zero_copy_only=False)
        return found

    def captions_with(self, chosen: np.ndarray, count: int) -> np.ndarray:
        """For each of `count` captions whether it has one of the chosen distinct parts."""
        import numpy as np

        found = np.zeros(count, bool)
        found[self.rows[chosen[self.codes]]] = True
        return found

    def pairs(self) -> np.ndarray:
        """Each part of each caption as one integer, row * len(texts) + code, ascending and with repeats."""
        import numpy as np

        return np.sort(self.rows * len(self.texts) + self.codes)


@dataclass(slots=True)
class CaptionSplitter:
    """Splits captions into parts; caches the token counts of words."""

    lengths: dict[str, int] = field(default_factory=dict)

    def __call__(self, captions: pa.Array) -> CaptionParts:
        """The parts of some captions, split at ', '."""
        import pyarrow.compute as pc

        if len(self.lengths) > _CACHED_WORDS:
            self.lengths.clear()
        lists = pc.split_pattern(pc.fill_null(captions, ""), ", ")
        encoded = pc.dictionary_encode(pc.list_flatten(lists))
        rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        spelled = pc.dictionary_encode(normalize_column(pc.replace_substring(encoded.dictionary, "\\", "")))
        tokens = self._tokens(encoded.dictionary, rows, codes, len(captions))
        return CaptionParts(rows, spelled.indices.to_numpy(zero_copy_only=False)[codes], tokens, spelled.dictionary)

    def _tokens(self, parts: pa.Array, rows: np.ndarray, codes: np.ndarray, count: int) -> np.ndarray:
        """The number of CLIP tokens of each of `count` captions: those of its parts, all but the last with a comma.

        A comma is one more token, unless the part ends with punctuation that it may merge with.
        """
        import numpy as np
        import pyarrow.compute as pc

        alone = self._counts(parts)
        before = alone + 1
        signs = np.flatnonzero(pc.match_substring_regex(parts, _ENDS_WITH_PUNCTUATION).to_numpy(zero_copy_only=False))
        before[signs] = self._counts(pc.binary_join_element_wise(parts.take(signs), ",", ""))
        last = np.append(rows[1:] != rows[:-1], True) if len(rows) else np.zeros(0, bool)
        return np.bincount(rows, np.where(last, alone[codes], before[codes]), count).astype(np.int64)

    def _counts(self, texts: pa.Array) -> np.ndarray:
        """The number of CLIP tokens of each text: its digits, and those of its words."""
        import numpy as np
        import pyarrow.compute as pc

        lists = pc.split_pattern_regex(texts, _BREAKS)
        encoded = pc.dictionary_encode(pc.list_flatten(lists))
        words = encoded.dictionary.to_pylist()
        new = [word for word in words if word not in self.lengths]
        self.lengths |= dict(zip(new, Tokens.load().counts(new), strict=True))
        each = np.array([self.lengths[word] for word in words], np.int64)
        rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
        letters = np.bincount(rows, each[encoded.indices.to_numpy(zero_copy_only=False)], len(texts))
        digits = pc.count_substring_regex(texts, "[0-9]").to_numpy(zero_copy_only=False)
        counts: np.ndarray = letters.astype(np.int64) + digits
        return counts


def _escaped(text: str) -> str:
    """`text` as a literal for RE2, which refuses some of re.escape's escapes, such as that of a space."""
    return "".join(f"\\{sign}" if sign in r"\.+*?()|[]{}^$" else sign for sign in text)
