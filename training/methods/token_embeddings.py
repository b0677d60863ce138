"""Embeddings of textual inversion: vectors that extend a text encoder's vocabulary, and their files."""

from __future__ import annotations

import math
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError, first_line
from pipeline.tag_text import escape_control

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]

SINGLE = "emb_params"  # the only tensor of a file for a base with one text encoder
NAMES = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}  # of those for two, as SDXL's readers know them
_READ = "prep reads safetensors, and of .pt and .bin files those that hold nothing but tensors."


@dataclass(frozen=True, slots=True)
class TokenEmbeddings:
    """Vectors appended to the vocabulary of one text encoder; each word has one or more, in order."""

    first_id: int  # token id of the first vector: the size of the vocabulary
    vectors: Tensors  # by word: (n, width), float32
    max_norm: float  # longer vectors are scaled to this norm when they are used

    def token_ids(self) -> dict[str, list[int]]:
        """The token ids of each word."""
        found, at = {}, self.first_id
        for word, vectors in self.vectors.items():
            found[word] = list(range(at, at + len(vectors)))
            at += len(vectors)
        return found

    def limited(self) -> Tensors:
        """The vectors as they are used.

        Those that are too long are scaled down, so that only their direction is trained further: adaptive optimizers
        change each value by about the learning rate, and 0.005 in each of 768 values is a third of the norm of CLIP's
        own vectors at every step.
        """
        if math.isinf(self.max_norm):
            return self.vectors
        return {
            word: vectors * (self.max_norm / vectors.norm(dim=1, keepdim=True).clamp(min=self.max_norm))
            for word, vectors in self.vectors.items()
        }


def vocabulary(encoder: Any) -> torch.Tensor:
    """A text encoder's own vectors, (tokens, width)."""
    weight: torch.Tensor = encoder.get_input_embeddings().weight
    return weight


def extend_vocabulary(encoder: Any, rows: TokenEmbeddings) -> None:
    """Let a text encoder look up token ids after its vocabulary in these vectors, through which gradients flow.

    Its own embedding stays separate: concatenated with the new vectors, 38 million values would be copied at every
    step. A text is pooled at its end token; with the configurations of older files transformers takes the largest
    token id for it, which would now be one of the new ones.
    """
    import torch
    from torch.nn.functional import embedding

    holder = encoder.get_input_embeddings()

    def forward(tokens: torch.Tensor) -> torch.Tensor:
        known = embedding(tokens.clamp(max=rows.first_id - 1), holder.weight)
        new = embedding((tokens - rows.first_id).clamp(min=0), torch.cat(list(rows.limited().values())))
        return torch.where((tokens >= rows.first_id)[..., None], new, known)

    holder.forward = forward
    fix_eos_id(encoder)


def fix_eos_id(encoder: Any) -> None:
    """Set CLIP's end token where the configuration has 2, as all had before transformers 4.31."""
    for module in encoder.modules():
        if getattr(module, "eos_token_id", None) == 2:
            module.eos_token_id = len(vocabulary(encoder)) - 1


@dataclass(frozen=True, slots=True)
class TokenizedIds:
    """The token ids of a text, as tokenizers return them."""

    input_ids: list[int]


@dataclass(frozen=True)
class PlaceholderTokenizer:
    """A tokenizer that maps whole words, in any case, to token ids of their own."""

    tokenizer: Any
    token_ids: dict[str, list[int]]

    @property
    def bos_token_id(self) -> int:
        return int(self.tokenizer.bos_token_id)

    @property
    def eos_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def pad_token_id(self) -> int:
        return int(self.tokenizer.pad_token_id)

    def __call__(self, text: str, add_special_tokens: bool = False, truncation: bool = False) -> TokenizedIds:
        own = {word.lower(): tokens for word, tokens in self.token_ids.items()}
        ids: list[int] = []
        for at, piece in enumerate(words_pattern(own).split(text)):
            plain = {"add_special_tokens": add_special_tokens, "truncation": truncation}
            ids += own[piece.lower()] if at % 2 else self.tokenizer(piece, **plain).input_ids
        return TokenizedIds(ids)


def words_pattern(words: Any) -> re.Pattern[str]:
    """A pattern for these as whole words; of words with the same beginning it finds the longest."""
    choices = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.compile(rf"(?<!\w)({choices})(?!\w)", re.IGNORECASE)


def file_tensors(vectors: Tensors) -> Tensors:
    """One word's vectors by text encoder, under the names in files."""
    if len(vectors) == 1:
        return {SINGLE: next(iter(vectors.values()))}
    return {NAMES[part]: value for part, value in vectors.items()}


def read_embedding(path: Path, widths: dict[str, int]) -> Tensors:
    """The vectors of a file by text encoder, (n, width) in float32; `widths` are those of the base model.

    Files of prep, WebUI (.pt or .safetensors) and diffusers (learned_embeds) are read. PrepError when the file is
    something else, or for another base model.
    """
    shown = escape_control(path.name)
    named = _named(path)
    if len(widths) == 1 and len(named) == 1:
        named = dict.fromkeys(widths, next(iter(named.values())))
    else:
        named = {part: named[name] for part, name in NAMES.items() if name in named}
    found = {part: value.detach().float().reshape(-1, value.shape[-1]) for part, value in named.items() if value.dim()}
    if found.keys() != widths.keys():
        raise PrepError(
            f"{shown} holds vectors for {len(found)} known text encoders; the base model has {len(widths)}.",
            "Use an embedding for the base model's family.",
        )
    for part, value in found.items():
        if value.shape[1] != widths[part]:
            raise PrepError(
                f"{shown} holds vectors of {value.shape[1]} values; the {part} of the base model has {widths[part]}.",
                "Use an embedding for the base model's family.",
            )
        if (
            not bool(value.isfinite().all())
            or not 1 <= len(value) <= 75
            or len(value) != len(next(iter(found.values())))
        ):
            raise PrepError(f"{shown} is damaged: it does not hold a complete set of vectors.", "Copy the file again.")
    return found


def _named(path: Path) -> Tensors:
    """The tensors of a file by name; no code in it is executed."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    shown = escape_control(path.name)
    try:
        if path.suffix.lower() == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise PrepError(
            f"{shown} holds something other than tensors; prep does not run code from files.", _READ
        ) from None
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError) as error:
        raise PrepError(
            f"{shown} is not a complete file of tensors: {escape_control(first_line(error))}.", _READ
        ) from None
    inner = content.get("string_to_param", content) if isinstance(content, dict) else {}
    found = {str(name): value for name, value in inner.items() if isinstance(value, torch.Tensor)}
    if not found:
        raise PrepError(f"{shown} holds no embedding.", _READ)
    return found
