"""Styles as WebUI's styles.csv holds them, and comments."""

from __future__ import annotations

import pytest

from pipeline.errors import PrepError
from training.sampling.prompt.styles import Style, apply_styles, find_styles, read_styles, strip_comments


@pytest.mark.parametrize(
    ("prompt", "styles", "whole"),
    [
        ("a cat", [], "a cat"),
        ("a cat ", ["ink"], "a cat, ink"),
        ("a cat", ["ink drawing of {prompt}, fine", "4k"], "ink drawing of a cat, fine, 4k"),
        ("", ["ink"], "ink"),
        ("", ["{prompt} {prompt}"], " "),
        ("a cat", ["", "# none"], "a cat"),
        ("a #b", ["c # d"], "a, c"),
    ],
)
def test_application(prompt, styles, whole):
    assert apply_styles(prompt, styles) == whole


@pytest.mark.parametrize(
    ("text", "rest"),
    [("a # b", "a \n"), ("# a\nb", "\nb"), ("a\n# b\nc", "a\nc"), ("a # b\nc", "a \nc"), ("no comment", "no comment")],
)
def test_comments_end_with_the_line(text, rest):
    assert strip_comments(text) == rest


def test_the_file_of_webui(tmp_path):
    path = tmp_path / "styles.csv"
    path.write_text('\ufeffname,prompt,negative_prompt\nink,"ink, {prompt}",photo\n# off,x,y\n,,\nplain,a,\n', "utf-8")
    styles = read_styles(path)
    assert styles == {"ink": Style("ink, {prompt}", "photo"), "plain": Style("a", "")}
    assert find_styles(["plain", "ink"], styles) == [styles["plain"], styles["ink"]]
    with pytest.raises(PrepError, match="inks"):
        find_styles(["inks"], styles)


def test_the_older_columns(tmp_path):
    path = tmp_path / "styles.csv"
    path.write_text("name,text\nink,ink drawing\n")
    assert read_styles(path) == {"ink": Style("ink drawing", "")}


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"name,prompt\n\xff,x\n", None])
def test_files_that_hold_no_styles(tmp_path, content):
    path = tmp_path / "styles.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PrepError):
        read_styles(path)
