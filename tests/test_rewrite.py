from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PrepError
from stages.merging.rewrite import RewriteRule, read_rewrites, rewrite_sentence, rewrite_tag


def changed(tag, *replace, remove=()):
    return rewrite_tag(tag, read_rewrites(replace, remove))


@pytest.mark.parametrize(
    ("tag", "rule", "expected"),
    [
        ("hat", "hat=cap", "cap"),
        ("Red_Hat", "red hat=red cap", "red cap"),
        ("hatch", "hat=cap", "hatch"),
        ("straw hat", "hat=cap", "straw hat"),
        ("=_=", "=_==closed eyes", "closed eyes"),
        ("gray hair", "word:gray=grey", "grey hair"),
        ("gray_gray", "word:gray=grey", "grey grey"),
        ("grayish hair", "word:gray=grey", "grayish hair"),
        ("gray-haired", "word:gray=grey", "grey-haired"),
        ("glasses", "word:ass=rear", "glasses"),
        ("c++", "word:c++=code", "code"),
        ("red hat", r"regex:^(\w+) hat$=\1 cap", "red cap"),
        ("big red hat", r"regex:^(\w+) hat$=\1 cap", "big red hat"),
        ("2girls", r"regex:^(\d)girls=\1 people", "2 people"),
        ("Long_Hair", "hat=cap", "Long_Hair"),  # what no rule fits keeps its spelling
    ],
)
def test_replacing(tag, rule, expected):
    assert changed(tag, rule) == expected


def test_rules_come_one_after_the_other_and_removals_last():
    assert changed("hat", "hat=cap", "cap=crown") == "crown"
    assert changed("cap", "hat=cap", remove=("cap",)) is None
    assert changed("hat", "hat=cap", remove=("hat",)) == "cap"
    assert changed("red hat", remove=("word:hat",)) is None
    assert changed("hatch", remove=("word:hat",)) == "hatch"
    assert changed("hatch", remove=("regex:^hat",)) is None
    assert changed("hat", r"regex:h(x?)at=\1") is None  # nothing is left


def test_sentences_change_by_word_and_pattern_only():
    rules = read_rewrites(("a man=a woman", "word:man=person", r"regex:(\d) hats=\1 caps"), ("word:a",))
    assert rewrite_sentence("A man, a  salesman\nand 2 Hats", rules) == "A person, a salesman and 2 caps"


def test_never_by_substring():
    """What sd-scripts makes of it: 'a salesgirl', 'girlal', 'girlbug'."""
    rules = read_rewrites(("word:person=girl", "word:lady=girl"), ())
    reported = "a salesperson with a personal ladybug"
    assert rewrite_sentence(reported, rules) == reported


@pytest.mark.parametrize("rule", ["hat", "=cap", "hat=", " = ", ""])
def test_what_is_no_rule(rule):
    with pytest.raises(PrepError, match="replace has"):
        read_rewrites((rule,), ())


@pytest.mark.parametrize("pattern", ["(", "(?=a)b", r"(a)\1", "a{1001}", "[z-a]"])
def test_patterns_that_cannot_be_used_are_refused_with_the_reason(pattern):
    with pytest.raises(PrepError, match="which cannot be compiled") as reported:
        read_rewrites((), (f"regex:{pattern}",))
    assert "RE2" in reported.value.hint
    with pytest.raises(PrepError, match="requests 2 matches"):
        read_rewrites((r"regex:(a)=\2",), ())


def test_no_pattern_hangs():
    """(a+)+$ takes Python's re longer than the age of the universe on this text; RE2's time grows with its length."""
    rules = read_rewrites((), ("regex:^(a+)+$", "regex:(a|a)*b", "regex:(.*)*x"))
    assert rewrite_tag("a" * 3000 + "!", rules) == "a" * 3000 + "!"


words = st.text(st.sampled_from("ab c_-"), min_size=1, max_size=12).filter(str.strip)


@given(words, words)
def test_a_whole_word_is_what_python_calls_one(text, word):
    if not (word := " ".join(word.replace("_", " ").split())):
        return
    rule = RewriteRule("word", word, None)
    there = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text.strip().lower().replace("_", " "))
    assert (rewrite_tag(text, (rule,)) is None) == bool(there)
