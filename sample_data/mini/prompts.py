"""Captions drawn from tags, and a CLIP tokenizer with one token for each word of the world."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections import Counter
from pathlib import Path

from pipeline.clip_bpe import END, START, byte_letters, vocabulary
from pipeline.workspace import write_atomic
from sample_data.world.tags import TAGS

# Other words for a tag; the model learns both.
SYNONYMS = {
    "1boy": ("man", "boy", "male"),
    "1girl": ("woman", "girl", "female"),
    "no humans": ("nobody",),
    "grey hair": ("gray hair",),
    "scenery": ("landscape",),
}
# Words without a meaning in this world. The shipped tokenizer has tokens for exactly these.
FILLER_WORDS = ("a", "an", "the", "of", "in", "with", "and", "at", "on", "is", "photo", "picture", "drawing", "person")
_RATINGS = frozenset(tag.name for tag in TAGS if tag.category == "rating")  # not in captions
MAX_TOKENS = 77  # sequence length of the text encoder, start and end tokens included


def vocabulary_words() -> list[str]:
    """All words of the world, split as CLIP splits text, sorted."""
    texts = [tag.name for tag in TAGS] + [word for also in SYNONYMS.values() for word in also] + list(FILLER_WORDS)
    return sorted({word for text in texts for word in re.findall(r"[a-z]+", text)})


def merges() -> list[str]:
    """BPE merges that make one token of every word: the most frequent pair first, ties in alphabetical order."""
    split = [(*word[:-1], f"{word[-1]}</w>") for word in vocabulary_words()]
    found = []
    while pairs := Counter(pair for pieces in split for pair in itertools.pairwise(pieces)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        found.append(" ".join(best))
        split = [_merged(pieces, best) for pieces in split]
    return found


def _merged(pieces: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    joined: list[str] = []
    for piece in pieces:
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return tuple(joined)


def write_tokenizer(folder: Path) -> dict[str, int]:
    """Write a CLIPTokenizer's files; returns the vocabulary, with all bytes as in CLIP's."""
    table = merges()
    numbers = vocabulary(table)
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": MAX_TOKENS,
        "do_lower_case": True,
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
    }
    files = {
        "vocab.json": json.dumps(numbers, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *table]) + "\n",
        "tokenizer_config.json": json.dumps(settings, indent=2),
    }
    for name, text in files.items():
        write_atomic(folder / name, text.encode())
    return numbers


def caption(names: list[str], rng: random.Random) -> str:
    """A random caption of these tags: shuffled, often with tags left out; one in ten is empty.

    Some get a random word, so that unknown words in prompts do no harm.
    """
    if rng.random() < 0.1:
        return ""
    share = 1.0 if rng.random() < 0.4 else rng.uniform(0.15, 1.0)
    chosen = [_tag_word(name, rng) for name in names if name not in _RATINGS and rng.random() < share]
    rng.shuffle(chosen)
    if rng.random() < 0.15:
        chosen.insert(rng.randint(0, len(chosen)), _random_word(rng))
    text = ", ".join(chosen)
    return f"a {rng.choice(FILLER_WORDS[10:13])} of {text}" if rng.random() < 0.05 else text


def _tag_word(name: str, rng: random.Random) -> str:
    return rng.choice(SYNONYMS[name]) if name in SYNONYMS and rng.random() < 0.4 else name


def _random_word(rng: random.Random) -> str:
    """Three to seven random letters."""
    letters = byte_letters()[ord("a") - 0x21 : ord("z") - 0x20]
    return "".join(rng.choice(letters) for _ in range(rng.randint(3, 7)))
