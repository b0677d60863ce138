"""Data sets for the tests of exchange: items of every kind, and a workspace that has built one."""

from __future__ import annotations

import string
from pathlib import Path

from hypothesis import strategies as st

from pipeline.exchange.item import DatasetItem
from pipeline.kohya_folders import DatasetFolder

WORD = st.text(string.ascii_letters + string.digits + "_é写真'", min_size=1, max_size=8)
WORDS = st.lists(WORD, min_size=1, max_size=3).map(" ".join)
# Everything a caption file can hold, but for zero bytes, a byte order mark at its head, and the last line's end.
CAPTION = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40).map(
    lambda text: text.lstrip("\ufeff").rstrip("\r\n")
)
STEM = st.text(string.ascii_lowercase + string.digits + "-", max_size=8).map(
    "a{}".format
)  # no 'con', as systems refuse
SHELF = st.builds(
    lambda role, repeats, token, class_name: DatasetFolder(role, repeats, "" if role == "reg" else token, class_name),
    st.sampled_from(["train", "val", "reg"]),
    st.integers(1, 99),
    WORD,
    WORDS,
)
SET = st.lists(st.tuples(SHELF, STEM, CAPTION), min_size=1, max_size=6, unique_by=lambda e: (e[0].path("x"), e[1]))


def items(folder: Path, entries: list[tuple[DatasetFolder, str, str]]) -> list[DatasetItem]:
    """The items of a drawn set, in order of their places, each with an image file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number, (folder_spec, stem, caption) in enumerate(entries):
        image = folder / f"{number}.png"
        image.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes([number]) * number)
        made.append(DatasetItem(image, f"{folder_spec.path('x')}/{stem}.png", caption))
    return sorted(made, key=lambda item: item.dataset_path)


def said(found: list[DatasetItem]) -> list[tuple[str, str | None, bytes]]:
    """What a set says, whatever files it lies in."""
    return sorted((item.dataset_path, item.caption, item.image.read_bytes()) for item in found)
