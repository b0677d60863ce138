from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import PrepError
from pipeline.exchange.item import DatasetItem, check_items, read_caption


@pytest.mark.parametrize("place", ["../a.png", "x/../../a.png", "/etc/a.png", "a.png", "x/a\x1b[2J.png", "x/a\n.png"])
def test_a_place_outside_of_the_set_is_refused(place):
    with pytest.raises(PrepError, match="is no path in a dataset") as reported:
        list(check_items([DatasetItem(Path("a.png"), place, "")]))
    assert "\x1b" not in str(reported.value)


@pytest.mark.parametrize("other", ["train/1_x/a.jpg", "train/1_x/A.png"])
def test_two_images_never_share_a_caption(other):
    """Kohya's reader gives a.png and a.jpg the same caption file (facts 1.2)."""
    items = [DatasetItem(Path("a.png"), place, "") for place in ("train/1_x/a.png", "train/2_x/a.png", other)]
    with pytest.raises(PrepError, match="Two images are named"):
        list(check_items(items))
    assert len(list(check_items(items[:2]))) == 2


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"smith, hat", "smith, hat"),
        (b"\xef\xbb\xbfsmith\r\n", "smith"),
        (b" smith \n\n", " smith "),
        (b"one\r\ntwo\n", "one\r\ntwo"),
        (b"\n", ""),
        (b"", ""),
    ],
)
def test_a_caption_is_read_word_for_word(tmp_path, data, text):
    (tmp_path / "a.caption").write_bytes(data)
    assert read_caption(tmp_path / "a.png") == text
    assert read_caption(tmp_path / "b.png") is None


def test_txt_comes_before_caption_and_another_encoding_is_refused(tmp_path):
    (tmp_path / "a.caption").write_text("old")
    (tmp_path / "a.txt").write_text("new")
    assert read_caption(tmp_path / "a.png") == "new"
    (tmp_path / "a.txt").write_bytes("né".encode("latin-1"))
    with pytest.raises(PrepError, match=r"a\.txt is not UTF-8"):
        read_caption(tmp_path / "a.png")
