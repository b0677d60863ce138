from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.edits import Edit
from pipeline.errors import PrepError
from pipeline.filter import Filter, parse
from pipeline.filter_terms import FilterView
from pipeline.record import Annotation, Drop
from tests.make import record, tag

BEARD = record(1, annotations=(tag("beard", 0.9), tag("long_hair", 0.45), tag(":d", 0.8), tag("x_(y)", 0.7)))
REG = record(2, annotations=(tag("hat", 0.6, "blip:large"),), role="reg", subject="", caption="man, a red hat")
GONE = record(3, drop=Drop("crop", "truncated"), source="raw/deep/IMG_3.JPG")
FLAGGED = record(
    4, annotations=(Annotation("unsure of it", "edit", "flag", None, "human"), tag("hat", None)), subject="Anna B"
)
ALL = {"beard": BEARD, "reg": REG, "gone": GONE, "flagged": FLAGGED}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "beard reg gone flagged"),
        ("  ", "beard reg gone flagged"),
        ("beard", "beard"),
        ("BEARD", "beard"),
        ("long_hair", "beard"),
        ('"long hair"', "beard"),
        ("long*", "beard"),
        ('"long*"', ""),
        ("hair", ""),
        (":d", "beard"),
        ("x_(y)", "beard"),
        ("(x_(y))", "beard"),
        ("hat", "reg flagged"),
        ('"a red hat"', "reg"),
        ("beard OR hat", "beard reg flagged"),
        ("hat role:reg", "reg"),
        ("hat AND role:reg", "reg"),
        ("hat NOT role:reg", "flagged"),
        ("not hat", "beard gone"),
        ("NOT NOT hat", "reg flagged"),
        ("NOT (beard OR hat)", "gone"),
        ("beard or hat and role:reg", "beard reg"),
        ("(beard or hat) and role:reg", "reg"),
        ("score:beard<0.5", ""),
        ("score:beard>=.9", "beard"),
        ("score:long_hair<0.5", "beard"),
        ('score:"long hair"<=0.45', "beard"),
        ("score:hat=1", "flagged"),
        ("score:*>0.85", "beard flagged"),
        ("(score:x_(y)<0.71)", "beard"),
        ("subject:smith", "beard gone"),
        ('subject:"anna b"', "flagged"),
        ("class:man", "beard reg gone flagged"),
        ("flag:*", "flagged"),
        ("flag:unsure*", "flagged"),
        ("flag:sure", ""),
        ("caption:RED", "reg"),
        ('caption:"a  red"', "reg"),
        ("name:*.jpg", "beard reg gone flagged"),
        ("name:img_3", "gone"),
        ("name:raw/deep/*", "gone"),
        ("name:img", ""),
        ("tagger:wd14", "beard flagged"),
        ("tagger:blip", "reg"),
        ("tagger:blip:large", "reg"),
        ("tagger:human", ""),
        ("dropped", "gone"),
        ('"dropped"', ""),
        ("edited", "flagged"),
        (f"id:{BEARD.id}", "beard"),
        (f"id:{BEARD.id[:5]}*", "beard"),
    ],
)
def test_the_language(text, expected):
    found = parse(text)
    assert [name for name, one in ALL.items() if found.matches(one)] == expected.split()
    assert parse(str(found)) == found


def test_edits_of_the_journal_are_seen():
    hat = parse("hat AND edited")
    assert not hat.matches(BEARD)
    assert hat.sees(FilterView.of(BEARD, (Edit("add", "hat"),)))
    assert parse("dropped").sees(FilterView.of(BEARD, (Edit("drop"),)))
    assert parse('caption:"red, cap"').sees(FilterView.of(BEARD, (Edit("set", "red,  cap"),)))


@pytest.mark.parametrize(
    ("text", "wrong", "fix"),
    [
        ("(a", "at its end: a parenthesis is not closed", "For example: beard AND NOT (hat OR role:reg)"),
        ("a)", "before ')': a closing parenthesis has no opening one", "For example: beard AND NOT (hat OR role:reg)"),
        ("a AND", "at its end: a tag or a condition is missing", "For example: beard AND NOT (hat OR role:reg)"),
        ("OR a", "before 'OR a': a tag or a condition is missing", "For example: beard AND NOT (hat OR role:reg)"),
        ("a ()", "before ')': a tag or a condition is missing", "For example: beard AND NOT (hat OR role:reg)"),
        ('"a', "before '\"a': a quote is not closed", "For example: beard AND NOT (hat OR role:reg)"),
        ('" "', "at its end: the quotes are empty", "For example: beard AND NOT (hat OR role:reg)"),
        (
            "subjct:x",
            "before 'subjct:x': 'subjct:' is unknown",
            "Did you mean subject:? A tag with a colon needs quotes.",
        ),
        ("role:boss", "at its end: there is no role 'boss'", "It must be one of: train, reg, val."),
        ("flag: x", "before 'x': flag: needs a value", "For example flag:unsure."),
        ("score:beard", "before 'beard': score: needs a tag and a number from 0 to 1", "For example score:beard<0.5."),
        ("score:a<7", "before 'a<7': score: needs a tag and a number from 0 to 1", "For example score:beard<0.5."),
        ("score:<0.5", "before '<0.5': score: needs a tag and a number from 0 to 1", "For example score:beard<0.5."),
        (
            "(" * 60,
            "before '(((((((((': more than 50 parentheses are open",
            "For example: beard AND NOT (hat OR role:reg)",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text, wrong, fix):
    with pytest.raises(PrepError) as caught:
        parse(text)
    assert caught.value.wrong == f"The filter is wrong {wrong}."
    assert caught.value.hint == fix


pieces = st.sampled_from(
    [
        "(",
        ")",
        " ",
        "AND",
        "or",
        "NOT",
        '"',
        "\\",
        "score:",
        "flag:",
        "role:reg",
        "a",
        "b*",
        "<0.5",
        ":",
        "dropped",
        "\n",
    ]
)
anything = st.one_of(st.text(max_size=40), st.lists(pieces, max_size=14).map("".join), st.lists(pieces).map(" ".join))


@given(anything)
def test_parsing_ends_in_a_filter_or_a_sentence(text):
    try:
        found = parse(text)
    except PrepError as error:
        assert error.hint and "\n" not in error.wrong
        return
    assert parse(str(found)) == found, str(found)
    for one in ALL.values():
        assert found.matches(one) in (True, False)


terms = st.sampled_from(["hat", "beard", '"long hair"', "role:reg", "score:hat<0.7", "dropped", "flag:*"])
trees = st.recursive(
    terms,
    lambda part: st.one_of(
        part.map(lambda p: f"NOT ({p})"),
        st.tuples(part, st.sampled_from([" ", " AND ", " OR "]), part).map(lambda t: f"({t[0]}){t[1]}({t[2]})"),
    ),
    max_leaves=8,
)


@given(trees)
def test_the_law_of_excluded_middle_and_the_way_back(text):
    found, other = parse(text), parse(f"NOT ({text})")
    assert parse(str(found)) == found
    for one in ALL.values():
        assert found.matches(one) != other.matches(one)


def test_all_is_the_filter_without_a_part():
    assert parse("") == Filter() and str(Filter()) == ""


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("blue shirt", '"blue shirt"'),
        ("Blue_shirt", "Blue_shirt"),
        ("NOT blue shirt hat", 'NOT "blue shirt" AND hat'),
        ("(hat blue shirt) OR role:reg", '(hat AND "blue shirt") OR role:reg'),
        ("blue AND shirt", "blue AND shirt"),
        ("blue blue shirt with stripes", 'blue AND "blue shirt with stripes"'),
        ("poster (object)", '"poster (object)"'),
        ("poster (object OR hat)", "poster AND (object OR hat)"),
        ("blue", "blue"),
    ],
)
def test_words_that_are_together_a_known_tag_are_that_tag(text, read):
    tags = {"blue shirt", "blue shirt with stripes", "poster (object)", "hat", "blue", "shirt"}
    assert str(parse(text, tags)) == read
    assert parse(read, tags) == parse(read), "quoted once, the tags known make no difference"
