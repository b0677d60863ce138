"""The painter's words: captions drawn from tags, and a CLIP tokenizer that has each of the world's words whole."""

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

# What people write instead of a tag; the painter learns both.
ALSO = {
    "1boy": ("man", "boy", "male"),
    "1girl": ("woman", "girl", "female"),
    "no humans": ("nobody",),
    "grey hair": ("gray hair",),
    "scenery": ("landscape",),
}
# Said of anything, and so without meaning here.
FILLING = ("a", "an", "the", "of", "in", "with", "and", "at", "on", "is", "photo", "image", "drawing", "person")
_RATINGS = frozenset(tag.name for tag in TAGS if tag.category == "rating")  # of the image, not in it
PLACES = 77  # tokens that the text encoder takes, with start and end


def words() -> list[str]:
    """All words of the world, as CLIP cuts text into words, sorted."""
    texts = [tag.name for tag in TAGS] + [word for also in ALSO.values() for word in also] + list(FILLING)
    return sorted({word for text in texts for word in re.findall(r"[a-z]+", text)})


def merges() -> list[str]:
    """Byte pairs in order of rank that make one token of every word: the most frequent pair first, then by letters."""
    split = [(*word[:-1], f"{word[-1]}</w>") for word in words()]
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
    """Write a CLIPTokenizer's files; returns the vocabulary. Bytes that no word has are tokens too."""
    table = merges()
    numbers = vocabulary(table)
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": PLACES,
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


def caption(names: list[str], stream: random.Random) -> str:
    """What an image with these tags is called at one draw: in any order, often thinned out, one in ten empty.

    Now and then a word that means nothing is put in, so that unknown words do no harm.
    """
    if stream.random() < 0.1:
        return ""
    share = 1.0 if stream.random() < 0.4 else stream.uniform(0.15, 1.0)
    chosen = [_said(name, stream) for name in names if name not in _RATINGS and stream.random() < share]
    stream.shuffle(chosen)
    if stream.random() < 0.15:
        chosen.insert(stream.randint(0, len(chosen)), _nonsense(stream))
    text = ", ".join(chosen)
    return f"a {stream.choice(FILLING[10:13])} of {text}" if stream.random() < 0.05 else text


def _said(name: str, stream: random.Random) -> str:
    return stream.choice(ALSO[name]) if name in ALSO and stream.random() < 0.4 else name


def _nonsense(stream: random.Random) -> str:
    """Three to seven letters in any order."""
    letters = byte_letters()[ord("a") - 0x21 : ord("z") - 0x20]
    return "".join(stream.choice(letters) for _ in range(stream.randint(3, 7)))
