from __future__ import annotations

from pipeline.edits import Edit
from pipeline.filter_terms import FilterView
from pipeline.journal import JournalEntry
from pipeline.record import Drop, Transform
from pipeline.review.lines import (
    GONE,
    NEW,
    WARM,
    caption_text,
    decision_message,
    image_summary,
    list_item,
    tag_item,
    token_line,
)
from stages.merging.compose import ComposedCaption
from stages.merging.tag_outcomes import TagOutcome
from tests.make import record, tag


def styles(text):
    """Which words have which style."""
    return {text.plain[span.start : span.end].strip(): str(span.style) for span in text.spans}


def test_a_caption_marks_the_unsure_the_new_and_what_left_by_reason():
    fates = (
        TagOutcome(tag("apron", 0.9), "apron"),
        TagOutcome(tag("cat_(x)", 0.42), "cat (x)"),
        TagOutcome(tag("bow", None, "human"), "bow"),
        TagOutcome(tag("1boy", 0.9), "1boy", "absorbed", "absorbed by the plan"),
        TagOutcome(tag("beard", 0.9), "beard", "absorbed", "absorbed by the plan"),
        TagOutcome(tag("hat", 0.9), "hat", "dropped", "removed by hand"),
    )
    text = caption_text(ComposedCaption("smith, apron, cat \\(x\\), bow", fates), ())
    assert text.plain == (
        "smith, apron, cat \\(x\\)\u00a0.42, bow\n1boy  beard  absorbed by the plan\nhat  removed by hand"
    )
    found = styles(text)
    assert found["smith"] == "bold" and found["cat \\(x\\)"] == WARM and found["bow"] == NEW
    assert found["1boy"] == found["beard"] == "strike dim" and found["hat"] == f"strike {GONE}"


def test_a_caption_by_hand_and_none():
    assert caption_text(ComposedCaption("my own", ()), (Edit("set", "my own"),)).plain == "my own\nwritten by hand"
    assert caption_text(ComposedCaption("", ()), ()).plain == "no caption"


def test_the_tokens_of_a_caption():
    assert token_line(12, 75).plain == "\n12 of 75 tokens"
    assert "75" in (over := token_line(80, 75)).plain and str(over.style) == WARM


def test_hostile_words_stay_words():
    text = caption_text(ComposedCaption("\x1b[2Jx", (TagOutcome(tag("\x07", 0.9), "\x07", "dropped", "why"),)), ())
    assert text.plain == "\\x1b[2Jx\n\\x07  why"


def test_about_an_image():
    one = record(1, role="reg", subject="", transform=Transform("flip", True))
    view = FilterView.of(one, (Edit("flag", "unsure"), Edit("drop")))
    assert (
        image_summary(one, view).plain
        == "1.jpg  man \u00b7 regularization \u00b7 flip \u00b7 512x512  \u2691 unsure  dropped"
    )
    gone = record(2, drop=Drop("crop", "truncated"))
    assert image_summary(gone, FilterView.of(gone)).plain == "2.jpg  smith \u00b7 512x512  dropped by crop: truncated"


def test_a_line_of_the_list():
    one = record(1)
    assert list_item(FilterView.of(one, ()), False).plain == "  1.jpg"
    assert list_item(FilterView.of(one, (Edit("add", "x"),)), True).plain == "\u2713 1.jpg \u2022"
    assert list_item(FilterView.of(one, (Edit("add", "x"), Edit("flag", "y"))), False).plain == "  1.jpg \u2691"
    assert "strike" in str(list_item(FilterView.of(one, (Edit("drop"),)), False).spans)
    assert list_item(FilterView.of(record(1, id=f"{one.id}-2"), ()), False).plain == "    copy 2 of 1.jpg"


def test_a_tag_and_its_count_fill_the_line():
    assert tag_item("long hair", 1234, False, 20).plain == " long hair    1,234 "
    assert tag_item("a very long tag indeed", 7, True, 16).plain == " a very long\u2026 7 "


def test_what_was_done_in_one_sentence():
    entry = JournalEntry(1, ("a", "b"), (Edit("add", "hat"), Edit("drop")))
    assert decision_message(entry, "", "no") == "add hat; drop \u00b7 2 images"
    assert decision_message(JournalEntry(1, ("a",), (Edit("drop"),)), "undone: ", "no") == "undone: drop \u00b7 1 image"
    assert decision_message(None, "", "There is nothing to undo.") == "There is nothing to undo."
