"""CLIP's byte-pair vocabulary, from the merge table that open_clip ships."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path

from pipeline.errors import PrepError

START, END = "<|startoftext|>", "<|endoftext|>"
SIZE = 49408  # 256 bytes, 256 bytes that end a word, the merges, the start and the end token
MERGES = SIZE - 2 * 256 - 2


def merge_table() -> list[str]:
    """The merges by rank, each as two pieces separated by a space.

    Reads the file only: importing open_clip would load torchvision.
    """
    spec = importlib.util.find_spec("open_clip")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        table = Path(folder) / "bpe_simple_vocab_16e6.txt.gz"
        if table.is_file():
            # The first line is a comment, and the table has more merges than CLIP was trained with.
            return gzip.decompress(table.read_bytes()).decode("utf-8").split("\n")[1 : MERGES + 1]
    raise PrepError("CLIP's token table was not found.", "Install it: pip install open-clip-torch")


def byte_letters() -> list[str]:
    """The printable character for each byte, in the order of the vocabulary.

    Printable Latin-1 characters stand for themselves and come first; the other bytes follow in order
    with the code points from 256, so that no entry has a space or a control character.
    """
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = len(set(range(256)) - set(itself))
    return [chr(code) for code in itself] + [chr(256 + k) for k in range(others)]


def vocabulary(merges: list[str]) -> dict[str, int]:
    """The id of every token."""
    letters = byte_letters()
    pieces = ["".join(merge.split()) for merge in merges]
    return {token: k for k, token in enumerate([*letters, *(x + "</w>" for x in letters), *pieces, START, END])}


def tokenizer_files(pad: str = END) -> dict[str, str]:
    """The files of a tokenizer folder for transformers, by name; short captions are padded with `pad`."""
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
