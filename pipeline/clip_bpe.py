"""CLIP's byte-pair vocabulary, from the merge table that ships inside open_clip."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path

from pipeline.errors import PrepError

START, END = "<|startoftext|>", "<|endoftext|>"
SIZE = 49408  # entries: 256 bytes, the same ending a word, the merges, start and end
MERGES = SIZE - 2 * 256 - 2


def merge_table() -> list[str]:
    """The merges in order of rank, each as two pieces with a space between.

    Only the table's file is read: importing open_clip would load torchvision for it.
    """
    spec = importlib.util.find_spec("open_clip")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        table = Path(folder) / "bpe_simple_vocab_16e6.txt.gz"
        if table.is_file():
            # The table's first line is a comment, and it holds more merges than CLIP was trained with.
            return gzip.decompress(table.read_bytes()).decode("utf-8").split("\n")[1 : MERGES + 1]
    raise PrepError("CLIP's token table was not found.", "Install it: pip install open-clip-torch")


def byte_letters() -> list[str]:
    """The printable letter that stands for each byte, in the vocabulary's order.

    Printable Latin-1 stands for itself and comes first; the other bytes follow in order and take
    the code points from 256 on, so that no entry holds a space or a control character.
    """
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = len(set(range(256)) - set(itself))
    return [chr(code) for code in itself] + [chr(256 + k) for k in range(others)]


def vocabulary(merges: list[str]) -> dict[str, int]:
    """Every token and its number, as CLIP counts them."""
    letters = byte_letters()
    pieces = ["".join(merge.split()) for merge in merges]
    return {token: k for k, token in enumerate([*letters, *(x + "</w>" for x in letters), *pieces, START, END])}


def tokenizer_files(pad: str = END) -> dict[str, str]:
    """A tokenizer folder as transformers reads it: file name to content; short captions are filled up with `pad`."""
    merges = merge_table()
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "do_lower_case": True,
        "bos_token": START,
        "eos_token": END,
        "pad_token": pad,
        "unk_token": END,
    }
    return {
        "vocab.json": json.dumps(vocabulary(merges), ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *merges]) + "\n",
        "tokenizer_config.json": json.dumps(settings, indent=2),
    }
