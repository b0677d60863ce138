from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.clip_tokens import Tokens
from pipeline.edits import Edit
from pipeline.journal import Journal
from pipeline.record import Annotation, Transform
from pipeline.tag_text import normalize_tag
from pipeline.workspace import Workspace
from stages.merge import Merge
from stages.merging.compose import Composer
from stages.merging.plan import MergePlan, MergeRow, save_plan
from stages.merging.tag_outcomes import most_certain
from stages.merging.thresholds import select_tags
from tests.make import record, tag

HAIR = (tag("1boy", 0.99), tag("gray_hair", 0.95), tag("straw_hat", 0.9), tag("hat", 0.8), tag("smile", 0.7))
SAID = (*HAIR, Annotation("A man with  gray hair", "caption", "", None, "blip"))


@pytest.fixture
def home(tmp_path):
    return Workspace(tmp_path)


def row(tag, action, subject="smith"):
    return MergeRow(subject, tag, 1, 1, None, None, None, action, "")


def caption(home, annotations=SAID, /, record_number=1, **options):
    return Composer.of(Merge(**options), home).compose(record(record_number, annotations=annotations)).caption


def test_every_tag_has_one_fate_with_its_reason(home):
    save_plan(
        home, MergePlan((row("1boy", "absorb"), row("hat", "drop"), row("smile", "keep"), row("gray hair", "review")))
    )
    Journal.read(home).append(home, [record(1).id], [Edit("remove", "smile"), Edit("add", "scarf")])
    merge = Merge(absorb=("straw hat",), replace=("gray_hair=grey hair",), max_tags=1)
    composed = Composer.of(merge, home).compose(record(1, annotations=HAIR))
    assert composed.caption == "smith, scarf"
    assert {f.annotation.text: (f.text, f.outcome, f.reason) for f in composed.outcomes} == {
        "1boy": ("1boy", "absorbed", "absorbed by the plan"),
        "gray_hair": ("grey hair", "dropped", "over max-tags"),
        "straw_hat": ("straw_hat", "absorbed", "listed in absorb"),
        "hat": ("hat", "dropped", "dropped by the plan"),
        "smile": ("smile", "dropped", "removed by hand"),
        "scarf": ("scarf", "kept", ""),
    }


def test_tags_of_a_file_keep_its_order(home):
    file = tuple(tag(text, None, "files") for text in ("1girl", "smith", "zebra", "apple", "blue eyes"))
    assert caption(home, file) == "smith, 1girl, zebra, apple, blue eyes"
    assert caption(home, (*HAIR, *file)) == (  # before what a tagger is less sure of
        "smith, 1girl, zebra, apple, blue eyes, 1boy, gray hair, straw hat, hat, smile"
    )
    assert caption(home, file, pinned=("apple",)) == "smith, apple, 1girl, zebra, blue eyes"
    assert caption(home, file, order="name") == "smith, 1girl, apple, blue eyes, zebra"
    assert caption(home, file, max_tags=2) == "smith, 1girl, zebra"


@pytest.mark.parametrize(
    ("sentence", "options", "expected"),
    [
        ("A photo of smith, a man in a red coat.", {}, "A photo of smith, a man in a red coat., hat"),
        ("A photo of Smith.", {}, "A photo of Smith., hat"),
        ("A photo of a smithy.", {}, "smith, A photo of a smithy., hat"),
        ("smith wears a coat.", {"trigger": "{token} {class}"}, "smith man, smith wears a coat., hat"),
        ("A smith man at work.", {"trigger": "{token} {class}"}, "A smith man at work., hat"),
        ("This is smith.", {"prefix": "best quality,"}, "best quality, This is smith., hat"),
        ("This is smith.", {"template": "{trigger}, {tags}, {captions}"}, "smith, hat, This is smith."),
        ("This is smith.", {"template": "photo of {trigger}, {captions}"}, "photo of smith, This is smith."),
    ],
)
def test_the_trigger_is_not_put_before_a_sentence_that_says_it(home, sentence, options, expected):
    file = (Annotation(sentence, "caption", "", None, "files"), tag("hat", None, "files"))
    assert caption(home, file, **options) == expected


def test_models_own_spellings_keep_their_underscores(home):
    file = tuple(tag(t, None, "files") for t in ("score_9", "source_anime", "rating_safe", "long_hair", ";_;"))
    assert caption(home, file) == "smith, score_9, source_anime, rating_safe, long hair, ;_;"


def test_commas_around_what_is_put_in_are_the_templates(home):
    around = {"prefix": "masterpiece, best quality,", "suffix": ", 4k", "add": ("film, ",)}
    assert caption(home, (tag("hat"),), **around) == "masterpiece, best quality, smith, hat, film, 4k"


def test_sides_are_swapped_in_flipped_copies_on_request(home):
    file = (tag("looking_left", None, "files"), tag("scar on Right cheek", None, "files"))
    own = record(1, annotations=file)
    flipped = replace(own, id=f"{own.id}-1", origin=own.id, transform=Transform("flip", flip=True))
    turned = replace(flipped, transform=Transform("rotate", angle=5.0))

    def captions(*records, **options):
        composer = Composer.of(Merge(**options), home)
        return [composer.compose(r).caption for r in records]

    plain, swapped = "smith, looking left, scar on Right cheek", "smith, looking right, scar on Left cheek"
    assert captions(own, flipped) == [plain, plain]
    assert captions(own, flipped, turned, swap_sides=True) == [plain, swapped, plain]
    # What is absorbed is what the image shows, not its mirror image.
    assert captions(own, flipped, swap_sides=True, absorb=("looking left",)) == [
        "smith, scar on Right cheek",
        "smith, scar on Left cheek",
    ]
    Journal.read(home).append(home, [own.id], [Edit("set", "smith, on the left")])
    assert captions(own, flipped, swap_sides=True) == ["smith, on the left", "smith, on the right"]
    Journal.read(home).append(home, [flipped.id], [Edit("set", "smith, to my left")])  # said of the copy itself
    assert captions(flipped, swap_sides=True) == ["smith, to my left"]


def test_the_plan_is_by_subject_and_the_recipes_list_wins(home):
    save_plan(home, MergePlan((row("hat", "keep"), row("smile", "absorb"), row("1boy", "absorb", "anna"))))
    assert caption(home, HAIR) == "smith, 1boy, gray hair, straw hat, hat"
    assert caption(home, HAIR, absorb=("hat",)) == "smith, 1boy, gray hair, straw hat"
    composer = Composer.of(Merge(absorb=("hat",)), home)
    reg = record(1, annotations=HAIR, role="reg", subject="")
    assert composer.compose(reg).caption == "man, 1boy, gray hair, straw hat, hat, smile"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "smith, A man with gray hair, 1boy, gray hair, straw hat, hat, smile"),
        (
            {"template": "{prefix} {trigger} {class}, {tags}. {captions}, {suffix}", "prefix": "photo of"},
            "photo of smith man, 1boy, gray hair, straw hat, hat, smile. A man with gray hair",
        ),
        ({"template": "{trigger}, {tags}", "synonyms": True}, "smith, 1boy, grey hair, straw hat, hat, smile"),
        ({"template": "{trigger}, {tags}", "drop_implied": True}, "smith, 1boy, gray hair, straw hat, smile"),
        ({"replace": ("word:gray=grey",), "max_tags": 2}, "smith, A man with grey hair, 1boy, grey hair"),
        ({"replace": ("straw_hat=hat",), "template": "{tags}"}, "1boy, gray hair, hat, smile"),
        ({"remove": ("word:hat", "regex:^1"), "template": "{tags}"}, "gray hair, smile"),
        (
            {"groups": ("1.jpg=studio", "2.jpg=outside"), "add": ("photo",), "template": "{groups}, {add}"},
            "studio, photo",
        ),
        ({"pinned": ("smile", "hat"), "template": "{tags}"}, "smile, hat, 1boy, gray hair, straw hat"),
    ],
)
def test_options(home, options, expected):
    assert caption(home, **options) == expected


def test_a_limit_of_tokens_leaves_out_whole_tags_from_the_end(home):
    tokens = Tokens.load()
    full = caption(home, HAIR)
    for limit in range(1, tokens.count(full) + 1):
        said = caption(home, HAIR, max_tokens=limit)
        parts = full.split(", ")
        assert said.split(", ") == parts[: len(said.split(", "))]
        assert tokens.count(said) <= limit or said == "smith"
        more = ", ".join(parts[: len(said.split(", ")) + 1])
        assert said == full or tokens.count(more) > limit
    assert caption(home, HAIR, max_tokens=75) == full
    assert caption(home, HAIR, max_tokens=75, max_tags=1) == "smith, 1boy"
    outcomes = Composer.of(Merge(max_tokens=4, max_tags=4), home).compose(record(1, annotations=HAIR)).outcomes
    assert [f.reason for f in outcomes if f.outcome == "dropped"] == ["over max-tokens"] * 3 + ["over max-tags"]


def test_human_edits_by_record_and_by_root(home):
    edits = Journal.read(home)
    one, copy, two = record(1), record(1, id=f"{record(1).id}-1", origin=record(1).id), record(2)
    edits.append(home, [one.id], [Edit("replace", "hat", "cap"), Edit("remove", "A man with gray hair")])
    edits.append(home, [two.id], [Edit("set", "just this, hat")])
    composer = Composer.of(Merge(), home)

    def said(record):
        return composer.compose(record).caption

    from dataclasses import replace

    expected = "smith, 1boy, gray hair, straw hat, cap, smile"
    assert said(replace(one, annotations=SAID)) == said(replace(copy, annotations=SAID)) == expected
    assert said(replace(two, annotations=SAID)) == "just this, hat"  # verbatim: no trigger is forced in
    edits.append(home, [two.id], [Edit("remove", "hat")])
    composer = Composer.of(Merge(), home)
    assert said(replace(two, annotations=SAID)) == "just this"


def test_edits_are_noted_and_drop_the_image(home):
    edits = Journal.read(home)
    edits.append(home, [record(1).id], [Edit("replace", "hat", "cap"), Edit("flag", "unsure"), Edit("drop")])
    composer = Composer.of(Merge(), home)
    merged = composer.with_caption(record(1, annotations=HAIR))
    assert merged.annotations == (
        *HAIR,
        Annotation("hat -> cap", "edit", "replace", None, "human"),
        Annotation("unsure", "edit", "flag", None, "human"),
        Annotation("", "edit", "drop", None, "human"),
    )
    assert (merged.drop.stage, merged.drop.reason) == ("merge", "dropped by hand")
    assert composer.with_caption(merged) == merged
    edits.append(home, [record(1).id], [Edit("reset"), Edit("restore"), Edit("unflag", "unsure")])
    again = Composer.of(Merge(), home).with_caption(record(1, annotations=merged.annotations))
    assert again.annotations == HAIR and again.kept  # what was taken back leaves no note


words = st.sampled_from(["hat", "straw_hat", "Hat", "gray_hair", "grey hair", "smile", "1boy", "smith", "o_o"])
said = st.lists(
    st.one_of(
        st.builds(tag, words, st.one_of(st.none(), st.floats(0, 1)), st.sampled_from(["wd14:x", "basic"])),
        st.builds(Annotation, words, st.just("caption"), st.just(""), st.none(), st.just("blip")),
    ),
    max_size=8,
).map(tuple)
plans = st.lists(
    st.builds(row, words.map(normalize_tag), st.sampled_from(["absorb", "drop", "keep", "review"])), max_size=5
)
edits = st.lists(
    st.one_of(
        st.builds(Edit, st.sampled_from(["add", "remove", "flag", "set"]), words),
        st.builds(Edit, st.just("replace"), words, words),
        st.sampled_from([Edit("drop"), Edit("reset")]),
    ),
    max_size=4,
)
options = st.fixed_dictionaries(
    {
        "max_tags": st.integers(0, 3),
        "max_tokens": st.sampled_from([0, 5, 75]),
        "synonyms": st.booleans(),
        "drop_implied": st.booleans(),
        "order": st.sampled_from(["score", "name"]),
        "remove": st.sampled_from([(), ("word:hat",), ("smile",)]),
        "replace": st.sampled_from([(), ("hat=cap",), (r"regex:^(\w+) hair$=\1",)]),
        "absorb": st.sampled_from([(), ("hat",), ("smith=1boy", "anna=smile")]),
    }
)


@settings(max_examples=80, deadline=None)
@given(said, plans, edits, options, st.sampled_from(["train", "reg"]))
def test_the_laws_of_merging(annotations, rows, changes, how, role):
    """Tags in = kept + absorbed + dropped; the caption holds what is kept; merging twice gives the same."""
    with tempfile.TemporaryDirectory() as folder:
        home = Workspace(Path(folder))
        save_plan(home, MergePlan(tuple(rows)))
        one = record(1, annotations=annotations, role=role, subject="smith" if role == "train" else "")
        Journal.read(home).append(home, [one.id], changes)
        merge = Merge(**how)
        composer = Composer.of(merge, home)
        composed = composer.compose(one)
        mine = [f for f in composed.outcomes if f.annotation.tagger == "human"]
        assert sorted(f.annotation.text for f in composed.outcomes if f not in mine) == sorted(
            a.text for a in most_certain(select_tags(annotations, composer.thresholds))
        )
        assert {f.outcome for f in composed.outcomes} <= {"kept", "absorbed", "dropped"}
        assert all(bool(f.reason) != f.kept for f in composed.outcomes)
        kept = [f.text.replace("_", " ") if f.text != "o_o" else f.text for f in composed.outcomes if f.kept]
        if not any(e.what == "set" for e in composer.edits.of(one.id)):
            parts = composed.caption.split(", ")
            assert len(parts) == len(set(parts)) and set(kept) <= set(parts)
            assert ("smith" if role == "train" else "man") in re.split(r"\W+", parts[0])
        assert not merge.max_tags or len(kept) <= merge.max_tags
        (once,) = merge.start(home)([one])
        assert once.caption == composed.caption
        assert merge.start(home)([once]) == [once]


def test_commas_separate_tags_in_every_option(home):
    options = {"add": ("red coat, snow",), "pinned": ("smile, hat",), "absorb": ("smith=1boy, straw hat",)}
    assert caption(home, HAIR, **options) == "smith, smile, hat, gray hair, red coat, snow"
    assert caption(home, HAIR, remove=("hat, smile", "regex:^(gray|1).{1,9}$")) == "smith, straw hat"
    assert caption(home, HAIR, replace=("straw hat=cap, red", "red=blue"), remove=("cap",)) == (
        "smith, 1boy, gray hair, blue, hat, smile"
    )


@pytest.mark.parametrize("predicted", [HAIR, SAID])
def test_edits_of_several_tags_are_edits_of_each(home, predicted):
    """The same whether they were written at once or one by one, as older journals have them."""
    together = Edit("add", "green eyes, scarf"), Edit("replace", "straw_hat", "cap, red"), Edit("remove", "hat, smile")
    journal = Journal.read(home)
    journal.append(home, [record(1).id], together)
    at_once = caption(home, predicted)
    assert all(f", {words}," in f"{at_once}," for words in ("green eyes, scarf", "cap, red")) and "smile" not in at_once
    journal.undo(home)
    for what, tags in (("add", ("green eyes", "scarf")), ("remove", ("hat", "smile"))):
        for one in tags:
            journal.append(home, [record(1).id], [Edit(what, one)])
    journal.append(home, [record(1).id], [Edit("replace", "straw_hat", "cap, red")])
    assert caption(home, predicted) == at_once


def test_a_sentence_with_commas_is_removed_whole(home):
    sentence = Annotation("A man, in a hat", "caption", "", None, "blip")
    Journal.read(home).append(home, [record(1).id], [Edit("remove", "A man, in a hat")])
    assert caption(home, (*HAIR, sentence)).startswith("smith, 1boy")
