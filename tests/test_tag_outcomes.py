from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.edits import Edit
from pipeline.tag_text import normalize_tag
from stages.merging.tag_outcomes import TagOutcome, apply_edits, deduplicate, edit_texts, most_certain, sort_outcomes
from tests.make import tag

HAT, COAT, BEARD = (
    TagOutcome(tag("hat", 0.5), "hat"),
    TagOutcome(tag("red_coat", 0.9), "red_coat"),
    TagOutcome(tag("beard"), "beard"),
)
GONE = BEARD.removed("absorbed", "absorbed by the plan")


def kept(outcomes):
    return [f.text for f in outcomes if f.kept]


def test_each_tag_once_by_who_is_surest():
    said = [tag("long_hair", 0.5, "a"), tag("Long hair", 0.9, "b"), tag("hat", None, "a"), tag("cap", 0.9, "a")]
    assert [(a.text, a.tagger) for a in most_certain(said)] == [("hat", "a"), ("cap", "a"), ("Long hair", "b")]


def test_tags_that_rules_made_the_same_stay_once():
    outcomes = deduplicate([HAT, TagOutcome(tag("cap"), "Hat"), GONE])
    assert kept(outcomes) == ["hat"]
    reasons = [(f.outcome, f.reason) for f in outcomes[1:]]
    assert reasons == [("dropped", "duplicate"), ("absorbed", "absorbed by the plan")]


def test_what_people_add_is_kept_whatever_dropped_it():
    assert kept(apply_edits([HAT, GONE], [Edit("add", "Beard")])) == ["hat", "beard"]
    (_, new) = apply_edits([HAT], [Edit("add", "scarf")])
    assert (new.text, new.annotation.tagger, new.annotation.score, new.kept) == ("scarf", "human", None, True)
    assert apply_edits([HAT], [Edit("add", "HAT")]) == [HAT]


def test_removing_and_replacing_by_hand():
    assert kept(apply_edits([HAT, COAT], [Edit("remove", "Red Coat")])) == ["hat"]
    assert kept(apply_edits([HAT, COAT], [Edit("replace", "hat", "cap")])) == ["cap", "red_coat"]
    assert kept(apply_edits([HAT, COAT], [Edit("replace", "hat", "red coat")])) == ["red coat"]
    assert kept(apply_edits([HAT, GONE], [Edit("remove", "hat"), Edit("add", "hat")])) == ["hat"]
    assert apply_edits([HAT, GONE], [Edit("remove", "beard"), Edit("flag", "hat"), Edit("drop")]) == [HAT, GONE]


def test_sentences_and_keywords_follow_too():
    said = ["a man with a hat", "studio"]
    assert edit_texts(said, [Edit("remove", "A man with a hat")]) == ["studio"]
    assert edit_texts(said, [Edit("replace", "studio", "outside"), Edit("add", "x")]) == [said[0], "outside"]


def test_the_order_of_the_caption():
    assert [f.text for f in sort_outcomes([HAT, COAT, BEARD], (), False)] == ["beard", "red_coat", "hat"]
    assert [f.text for f in sort_outcomes([HAT, COAT, BEARD], (), True)] == ["beard", "hat", "red_coat"]
    assert [f.text for f in sort_outcomes([HAT, COAT, BEARD], ("hat", "none"), False)] == ["hat", "beard", "red_coat"]


words = st.sampled_from(["hat", "Hat", "red_coat", "beard", "cap"])
edits = st.one_of(
    st.builds(Edit, st.sampled_from(["add", "remove"]), words),
    st.builds(Edit, st.just("replace"), words, words),
)


@given(st.lists(words, unique_by=normalize_tag), st.lists(edits, max_size=6))
def test_no_tag_is_lost_or_said_twice(texts, changes):
    before = [TagOutcome(tag(text), text) for text in texts]
    after = apply_edits(before, changes)
    assert [f.annotation for f in after][: len(before)] == [f.annotation for f in before]
    assert all(f.annotation.tagger == "human" for f in after[len(before) :])
    names = [f.tag for f in after if f.kept]
    assert len(names) == len(set(names))
    assert apply_edits(after, changes[-1:]) == after or changes[-1].what == "replace"
