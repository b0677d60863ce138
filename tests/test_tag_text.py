from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tag_text import KAOMOJI, plain, plain_column, printable, spell

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
    assert plain_column(pa.array(tags, pa.string())).to_pylist() == [plain(tag) for tag in tags]


def test_spelling():
    assert spell("long_hair") == "long hair" and spell("long hair", underscores=True) == "long_hair"
    assert spell("^_^") == spell("^_^", underscores=True) == "^_^"
    assert spell("cat_(animal)", escape=True) == "cat \\(animal\\)" and spell("a\\b", escape=True) == "a\\\\b"
    assert plain(" Long_Hair ") == "long hair"


def test_what_commands_a_terminal_is_shown_as_text():
    assert printable("a\x1b[31mb\n\u202e") == "a\\x1b[31mb\\n\\u202e"
