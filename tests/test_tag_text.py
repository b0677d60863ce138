from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tag_text import KAOMOJI, escape_control, format_tag, normalize_column, normalize_tag

TAGS = [
    *sorted(KAOMOJI),
    " ^_^ ",
    "O_O",
    "Long_Hair",
    " 1boy\x1f",
    "İstanbul_x",
    "ΟΔΟΣ",
    "\u3000wide",
    "cat_(animal)",
    "",
]


@given(st.lists(st.sampled_from(TAGS) | st.text("aB_ ^\t\x1cé", max_size=6)))
def test_columns_are_spelled_as_single_tags(tags):
    assert normalize_column(pa.array(tags, pa.string())).to_pylist() == [normalize_tag(tag) for tag in tags]


def test_spelling():
    assert format_tag("long_hair") == "long hair" and format_tag("long hair", underscores=True) == "long_hair"
    assert format_tag("^_^") == format_tag("^_^", underscores=True) == "^_^"
    assert format_tag("cat_(animal)", escape=True) == "cat \\(animal\\)" and format_tag("a\\b", escape=True) == "a\\\\b"
    assert normalize_tag(" Long_Hair ") == "long hair"


def test_what_commands_a_terminal_is_shown_as_text():
    assert escape_control("a\x1b[31mb\n\u202e") == "a\\x1b[31mb\\n\\u202e"
