from __future__ import annotations

import pyarrow as pa
import pytest
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
    "score_9",
    "Score_8_Up",
    "source_anime",
    "rating_safe",
    "rating_9x",
    "style_cluster_7",
    "t_t",
    ";_;",
    "a_b",
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


@pytest.mark.parametrize(
    "tag", [*sorted(KAOMOJI), ";_;", "t_t", "*_*", "score_9", "score_7_up", "source_anime", "rating_safe"]
)
def test_underscores_that_are_part_of_a_tag_stay(tag):
    assert format_tag(tag) == normalize_tag(tag.upper()) == tag


@pytest.mark.parametrize(
    "tag", ["a_b", "1_girl", "cat_(animal)", "high_score", "score_sheet", "open_source_logo", "x_xx"]
)
def test_other_underscores_are_spaces(tag):
    assert format_tag(tag) == tag.replace("_", " ")


def test_what_commands_a_terminal_is_shown_as_text():
    assert escape_control("a\x1b[31mb\n\u202e") == "a\\x1b[31mb\\n\\u202e"
