"""CLIP's tokens: into which pieces a caption falls, and how many, as Stable Diffusion's text encoder counts them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.clip_bpe import END, START, merge_table, vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WINDOW = 75  # tokens of one window of the text encoder, without start and end
WORD_END = "</w>"  # how a piece that ends a word is written in the vocabulary
_AT_ONCE = 10_000  # texts taken at a time: their encodings are some 20 MB
# Where text is cut before the merges, as OpenAI's simple_tokenizer.py cuts it: digits are single, signs stay together.
_CUTS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True, slots=True)
class Tokens:
    """CLIP's byte-pair encoder for lower-cased text. Start and end tokens are never counted."""

    encoder: Tokenizer

    @classmethod
    def load(cls) -> Tokens:
        """The encoder, built once a process in about a tenth of a second; PrepError without open_clip's table."""
        return _load()

    def count(self, text: str) -> int:
        """How many tokens a text has."""
        return len(self.encoder.encode(text, add_special_tokens=False).ids)

    def counts(self, texts: list[str]) -> Iterator[int]:
        """The same for many texts, on all cores; a million captions take some seconds."""
        for start in range(0, len(texts), _AT_ONCE):
            batch = self.encoder.encode_batch_fast(texts[start : start + _AT_ONCE], add_special_tokens=False)
            yield from (len(encoding.ids) for encoding in batch)

    def pieces(self, text: str) -> list[str]:
        """The tokens as the vocabulary writes them: 'smith</w>', where '</w>' ends a word."""
        return list(self.encoder.encode(text, add_special_tokens=False).tokens)

    def ids(self, text: str) -> list[int]:
        """The tokens' numbers."""
        return list(self.encoder.encode(text, add_special_tokens=False).ids)


@functools.cache
def _load() -> Tokens:
    from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import BPE

    merges = merge_table()
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    encoder = Tokenizer(BPE(vocabulary(merges), pairs, end_of_word_suffix=WORD_END, unk_token=END))
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    encoder.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    cut = pre_tokenizers.Split(Regex(_CUTS), "removed", invert=True)
    encoder.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    encoder.add_special_tokens([AddedToken(word, normalized=False, special=True) for word in (START, END)])
    return Tokens(encoder)
