"""Splits captions into CLIP's tokens and counts them, as Stable Diffusion's text encoder does."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.clip_bpe import END, START, merge_table, vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WINDOW = 75  # tokens per chunk of the text encoder, without start and end
WORD_END = "</w>"  # suffix, in the vocabulary, of a piece that ends a word
_BATCH = 10_000  # texts encoded at a time; their encodings take about 20 MB
# Splits text before merging as OpenAI's simple_tokenizer.py does: single digits, runs of other signs.
_CUTS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True, slots=True)
class Tokens:
    """CLIP's byte-pair encoder for lower-cased text. Start and end tokens are never counted."""

    encoder: Tokenizer

    @classmethod
    def load(cls) -> Tokens:
        """The encoder, built once per process in about 0.1 s; PrepError without open_clip's table."""
        return _load()

    def count(self, text: str) -> int:
        """The number of tokens of a text."""
        return len(self.encoder.encode(text, add_special_tokens=False).ids)

    def counts(self, texts: list[str]) -> Iterator[int]:
        """The number of tokens of each text, on all cores; a million captions take some seconds."""
        for start in range(0, len(texts), _BATCH):
            batch = self.encoder.encode_batch_fast(texts[start : start + _BATCH], add_special_tokens=False)
            yield from (len(encoding.ids) for encoding in batch)

    def pieces(self, text: str) -> list[str]:
        """The tokens as the vocabulary writes them: 'smith</w>', where '</w>' ends a word."""
        return list(self.encoder.encode(text, add_special_tokens=False).tokens)

    def ids(self, text: str) -> list[int]:
        """The ids of the tokens."""
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
