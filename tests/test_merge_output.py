from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli.main import cli
from pipeline.edits import Edit
from pipeline.errors import PrepError
from pipeline.history import HistoryStep
from pipeline.journal import Journal
from pipeline.manifest import Manifest, write_manifest
from pipeline.mcut import mcut_threshold
from pipeline.record import Annotation
from pipeline.tag_text import KAOMOJI, format_tag, normalize_tag
from pipeline.workspace import Workspace
from stages.merge import Merge
from stages.merging.compose import Composer, absorbed_tag
from stages.merging.plan import PLAN
from stages.merging.thresholds import Thresholds, read_rules, select_tags
from tests.make import record, tag, workspace
from tests.worked_table import list_of_tags, manifest, records

NOWHERE = Workspace(Path("nowhere"))  # without a plan, without edits

APRON = (tag("1boy", 0.99), tag("facial_hair", 0.95), tag("apron", 0.9), tag("hammer", 0.4), tag("hat", 0.2))


def caption(annotations=APRON, options=None, **changes):
    return (
        Composer.of(Merge(**(options or {})), NOWHERE)
        .compose(record(1, annotations=tuple(annotations), **changes))
        .caption
    )


def test_row_a4_the_worked_example():
    assert caption(options={"absorb": ("1boy", "facial hair")}) == "smith, apron, hammer"


def test_nothing_is_absorbed_unless_named_and_low_scores_stay_out():
    assert caption() == "smith, 1boy, facial hair, apron, hammer"
    assert caption(options={"threshold": 0.95}) == "smith, 1boy, facial hair"


def test_absorbing_is_by_whole_tag_never_by_substring():
    tags = (tag("hair"), tag("facial hair", 0.8), tag("hairband", 0.7))
    assert caption(tags, {"absorb": ("hair",)}) == "smith, facial hair, hairband"


def test_a_rule_can_be_for_one_subject():
    assert absorbed_tag("smith=Facial_Hair", "smith") == "facial hair"
    assert absorbed_tag("smith=beard", "anna") == ""
    assert absorbed_tag("=_=", "smith") == "=_="
    rules = {"absorb": ("anna=apron", "smith=1boy")}
    assert caption(options=rules) == "smith, facial hair, apron, hammer"


def test_regularization_shows_the_class_and_absorbs_nothing():
    assert caption(options={"absorb": ("1boy",)}, role="reg", subject="") == "man, 1boy, facial hair, apron, hammer"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"trigger": "{token} {class}"}, "smith man, 1boy, facial hair, apron, hammer"),
        ({"trigger": "{nobody}"}, "{nobody}, 1boy, facial hair, apron, hammer"),
        ({"pinned": ("hammer", "apron")}, "smith, hammer, apron, 1boy, facial hair"),
        ({"remove": ("1Boy",), "max_tags": 2}, "smith, facial hair, apron"),
        ({"order": "name"}, "smith, 1boy, apron, facial hair, hammer"),
        ({"underscores": True}, "smith, 1boy, facial_hair, apron, hammer"),
        ({"add": ("photo", "apron")}, "smith, 1boy, facial hair, apron, hammer, photo"),
    ],
)
def test_options(options, expected):
    assert caption(options=options) == expected


def test_characters_have_their_own_threshold():
    tags = (tag("hero", 0.8, category="character"), tag("villain", 0.9, category="character"))
    assert caption(tags) == "smith, villain"


def test_ratings_and_measures_stay_out_and_sentences_come_in_one_line():
    said = (
        Annotation("explicit", "rating", "rating", 0.99, "wd14"),
        Annotation("a man\n with a hammer ", "caption", "", None, "blip"),
        tag("apron"),
    )
    assert caption(said) == "smith, a man with a hammer, apron"


def test_two_taggers_that_agree_say_it_once():
    tags = (tag("long_hair", 0.5, by="a"), tag("hat", 0.6, by="a"), tag("Long hair", 0.9, by="b"))
    assert caption(tags) == "smith, Long hair, hat"


tags = st.builds(tag, st.sampled_from(["hat", "long_hair", "1boy", "o_o", "cat (animal)", "smith"]), st.floats(0, 1))
options = st.builds(
    dict,
    absorb=st.sets(st.sampled_from(["hat", "1boy", "smith=o_o"])).map(tuple),
    max_tags=st.integers(0, 3),
    escape=st.booleans(),
)


@given(st.lists(tags, max_size=8), options)
def test_merging_twice_gives_the_same_and_keeps_what_taggers_said(said, how):
    merge = Merge(**how)
    (once,) = merge.start(NOWHERE)([record(1, annotations=tuple(said))])
    assert once.annotations == tuple(said)
    assert merge.start(NOWHERE)([once]) == [once]


@pytest.mark.parametrize("face", sorted(KAOMOJI))
def test_emoticons_keep_their_form(face):
    assert format_tag(face) == face == normalize_tag(face)
    assert format_tag(face, underscores=True) == face


def test_spelling():
    assert len(KAOMOJI) == 19
    assert format_tag("cat_(animal)", escape=True) == "cat \\(animal\\)"
    assert format_tag("cat_(animal)", underscores=True) == "cat_(animal)"
    assert normalize_tag(" Long_Hair ") == "long hair"


# --- thresholds ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "general", "character"),
    [
        ("wd14", 0.35, 0.85),
        ("wd14:my-own", 0.35, 0.85),
        ("wd14:wd-v1-4-vit-tagger-v2", 0.3537, 0.85),
        ("wd14:wd-v1-4-swinv2-tagger-v2", 0.3771, 0.85),
        ("wd14:wd-vit-tagger-v3", 0.2614, 0.85),
        ("wd14:wd-eva02-large-tagger-v3", 0.5296, 0.85),
        ("deepdanbooru:any", 0.5, 0.5),
    ],
)
def test_each_model_has_its_own_threshold_unless_one_is_given(by, general, character):
    said = [
        tag("on", general, by),
        tag("below", general - 0.0001, by),
        tag("hero", character, by, "character"),
        tag("nobody", character - 0.0001, by, "character"),
    ]
    assert set(caption(said).split(", ")) == {"smith", "on", "hero"}
    assert caption(said, {"threshold": 0.99, "character_threshold": 0.99}) == "smith"
    assert caption(said, {"threshold": 0.01, "character_threshold": 0.01}).count(",") == 4


def test_thresholds_by_tagger_model_and_category():
    """The closest rule counts; a rule for a tagger is not one for its characters."""
    a, b, c = "wd14:x", "wd14:y", "deepdanbooru:z"
    said = [tag(f"{by}{n}", n / 10, by) for by in (a, b, c) for n in range(1, 10)]
    said += [tag("hero", 0.7, a, "character"), tag("painter", 0.7, a, "artist")]

    def least(*rules):
        kept = [t.text for t in select_tags(said, Thresholds(0, 0, read_rules(rules), False))]
        ends = tuple(min((int(t[-1]) for t in kept if t.startswith(by)), default=None) for by in (a, b, c))
        return ends, "hero" in kept, "painter" in kept

    assert least() == ((4, 4, 5), False, True)
    assert least("wd14=0.8") == ((8, 8, 5), False, False)
    assert least("wd14=0.8", "wd14:y=0.2", "/character=0.7") == ((8, 2, 5), True, False)
    assert least("wd14=0.8", "wd14/artist=0.6", "wd14:x/character=0.6", "/character=0.9") == ((8, 8, 5), True, True)
    assert least("deepdanbooru=1", "wd14/general=0") == ((1, 1, None), False, True)


@pytest.mark.parametrize("rule", ["0.4", "=0.4", "wd14", "wd14=", "wd14=x", "wd14=1.1", "wd14=-1", "wd14=nan", ""])
def test_a_rule_that_is_none(rule):
    with pytest.raises(PrepError, match="thresholds has"):
        Merge(thresholds=(rule,))


def test_mcut_cuts_in_the_middle_of_the_largest_gap():
    assert mcut_threshold([]) == 0
    assert mcut_threshold([0.95, 0.9, 0.3, 0.1]) == pytest.approx(0.6)
    assert mcut_threshold([0.1, 0.9, 0.3, 0.95]) == pytest.approx(0.6)
    assert mcut_threshold([0.99, 0.98, 0.97]) == pytest.approx(0.51)  # all that was left out lies below 0.05
    assert mcut_threshold([0.9, 0.5, 0.1]) == pytest.approx(0.7)  # of equal gaps the highest
    said = (
        tag("1boy", 0.95, "wd14:x"),
        tag("beard", 0.9, "wd14:x"),
        tag("hat", 0.5, "wd14:x"),
        tag("apron", 0.45, "wd14:x"),
        tag("hero", 0.2, "wd14:x", "character"),
        tag("villain", 0.08, "wd14:x", "character"),
        tag("dark", 0.9, "basic"),
        tag("bright", 0.4, "basic"),
        tag("face", None, "basic"),
    )
    assert caption(said, {"mcut": True}) == "smith, face, 1boy, beard, dark, bright, hero"
    assert mcut_threshold([0.2, 0.08]) < 0.15 < 0.2  # the floor of characters counts
    assert caption([tag("hero", 0.2, "wd14:x", "character")], {"mcut": True}) == "smith, hero"
    assert caption([tag("hero", 0.14, "wd14:x", "character")], {"mcut": True}) == "smith"
    assert (
        caption(said, {"mcut": True, "thresholds": ("wd14=0.46",)})
        == "smith, face, 1boy, beard, dark, hat, bright, hero"
    )
    with pytest.raises(PrepError, match="mcut excludes threshold"):
        Merge(mcut=True, threshold=0.3)


@given(st.lists(st.floats(0.05, 1), min_size=1, max_size=30))
def test_mcut_separates_what_lies_furthest_apart(scores):
    cut = mcut_threshold(scores)
    above, below = [s for s in scores if s >= cut], [*(s for s in scores if s < cut), 0.05]
    assert above and cut <= max(scores)
    ranked = sorted([*scores, 0.05])
    assert min(above) - max(below) == pytest.approx(max(b - a for a, b in itertools.pairwise(ranked)))


@given(st.lists(tags, max_size=8), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_threshold_never_lets_more_in(said, one, two):
    low, high = sorted((max(one, 0.01), max(two, 0.01)))
    strict, loose = (select_tags(said, Thresholds(value, value, {}, False)) for value in (high, low))
    assert [a for a in loose if a in strict] == strict


def test_ratings_never_enter():
    said = (Annotation("explicit", "rating", "rating", 0.99, "wd14:x"), tag("hat", 0.9, "wd14:x"))
    for how in ({}, {"mcut": True}, {"thresholds": ("/rating=0",)}, {"threshold": 0.01}):
        assert caption(said, how) == "smith, hat"


def test_rules_for_nobody_are_refused(tmp_path):
    history = (HistoryStep("scan", 1, {}, "x"), HistoryStep("wd14", 1, {}, "y"))
    source = write_manifest(tmp_path / "tag.parquet", [[record(1)]], history)
    Merge(absorb=("smith=beard", "beard", "=_="), thresholds=("wd14:any=0.3", "/artist=0.9")).check_input(source)
    with pytest.raises(PrepError, match="'smth', which is no subject's token"):
        Merge(absorb=("smth=beard",)).check_input(source)
    with pytest.raises(PrepError, match="'blip', which has not run"):
        Merge(thresholds=("blip=0.3",)).check_input(source)


# --- the plan on the command line ----------------------------------------------------------------


@pytest.fixture
def home(tmp_path):
    """A workspace whose images were tagged as in the worked table."""
    found = workspace(tmp_path, '[merge]\nabsorb = ["solo"]\n')
    list_of_tags(tmp_path / "selected_tags.csv")
    (tmp_path / "manifests").mkdir()
    manifest(found.manifest("tag"), records())
    return found


def merge(home, *arguments):
    """What prep merge prints; mistakes of the user's are raised."""
    done = CliRunner().invoke(cli, ["-C", str(home.root), "merge", *arguments])
    if isinstance(done.exception, PrepError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def captions(home):
    return [r.caption for r in Manifest.read(home.manifest("merge")).records()]


def suggest(home, *arguments):
    return merge(home, "--suggest", "--tag-counts", "selected_tags.csv", *arguments)


def test_suggest_shows_and_changes_nothing(home):
    lines = [line.split("\t") for line in suggest(home).splitlines()]
    assert lines[0] == [
        "smith", "blonde hair", "absorb", "100%", "18%", "2.07", "6.73",
        "4.2 times as often",
    ]  # fmt: skip
    assert [line[2] for line in lines] == ["absorb"] * 10 + ["review"] * 2 + ["keep"] * 5
    assert not home.manifest("merge").exists() and not home.path(PLAN).exists()
    rows = [json.loads(line) for line in suggest(home, "--json", "--min-coverage", "0.5").splitlines()]
    assert {row["tag"]: row["action"] for row in rows}["mole under eye"] == "absorb"


def test_tags_that_nobody_decided_about_are_noted(home):
    assert "own?" not in merge(home)  # the recipe absorbs something: its writer knows
    home.recipe.write_text(home.recipe.read_text().replace('["solo"]', "[]"))
    note = "smith seems to always have 1girl, blonde hair, long hair, blue eyes and 6 more. See: prep merge --suggest"
    assert [line.strip() for line in merge(home).splitlines()[1:]] == [note]
    suggest(home)
    assert "own?" not in merge(home, "--accept")
    assert note in merge(home, "--undo")


def test_accept_change_and_undo(home):
    suggest(home)
    reported = merge(home, "--accept", "--keep", "blue eyes", "--quiet")
    assert reported == ""
    assert captions(home)[0].startswith("smith, 1girl, blue eyes, ")
    assert not any("fox ears" in caption or "solo" in caption for caption in captions(home))
    first = captions(home)
    reported = merge(home, "--absorb", "mole under eye", "--drop", "smile")
    assert reported.splitlines()[0] == f"{'plan':<22}10 absorbed, 1 to review, 1 dropped, 5 kept"
    assert reported.splitlines()[1].strip().startswith("1girl: in the captions until you decide")
    assert reported.splitlines()[2].strip() == "to undo: prep merge --undo"
    assert not any("mole" in caption or "smile" in caption for caption in captions(home))
    assert "up to date" in merge(home)
    assert "the last change is undone" in merge(home, "--undo")
    assert captions(home) == first
    assert "no plan" in merge(home, "--undo")
    assert all("blonde hair" in caption for caption in captions(home))
    with pytest.raises(PrepError, match="There is no plan to undo"):
        merge(home, "--undo")


def test_merging_twice_gives_the_same_manifest(home):
    suggest(home)
    merge(home, "--accept")
    digest = Manifest.read(home.manifest("merge")).digest
    home.manifest("merge").unlink()
    merge(home)
    assert Manifest.read(home.manifest("merge")).digest == digest
    assert "unchanged" in merge(home, "--accept")
    assert Manifest.read(home.manifest("merge")).digest == digest


def test_absorb_is_for_once_without_a_plan_and_for_good_with_one(home):
    merge(home, "--absorb", "smile")
    assert not any("smile" in caption for caption in captions(home))
    merge(home)
    assert any("smile" in caption for caption in captions(home))
    suggest(home)
    merge(home, "--accept")
    merge(home, "--absorb", "smile")
    merge(home)
    assert not any("smile" in caption for caption in captions(home))


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (("--accept",), "There is no suggestion yet"),
        (("--keep", "smile"), "--keep changes a plan, and there is none yet"),
        (("--suggest", "--drop", "smile"), "--drop does not work with --suggest"),
        (("--suggest", "--accept"), "--suggest and --accept exclude each other"),
        (("--min-pmi", "2"), "--min-pmi works only with --suggest"),
        (("--replace", "hat"), "replace has 'hat'"),
        (("--template", "{tag}"), "the template has"),
        (("--taxonomy", "none.toml"), "There is no taxonomy"),
        (("--groups", "9.jpg.png=a"), "matches no image"),
    ],
)
def test_what_does_not_go(home, arguments, reported):
    with pytest.raises(PrepError, match=reported):
        merge(home, *arguments)


def test_a_suggestion_of_other_tags_is_not_accepted(home):
    suggest(home)
    home.manifest("tag").unlink()
    manifest(home.manifest("tag"), records()[1:])
    with pytest.raises(PrepError, match="The tags changed since the last suggestion"):
        merge(home, "--accept")


def test_what_people_decided_makes_merge_stale_and_says_so(home):
    suggest(home)
    stage = Merge(absorb=("solo",))
    before = stage.inputs(home)
    merge(home)
    assert before == {"plan": "", "edits": "", "taxonomy": ""}
    Journal.read(home).append(home, [records()[0].id], [Edit("set", "by hand")])
    assert "25 found" in merge(home)
    assert captions(home)[0] == "by hand"
    (home.root / "my.toml").write_text("[synonyms]\nkitsune = ['fox ears']\n")
    with_taxonomy = Merge(taxonomy="my.toml", synonyms=True)
    digest = with_taxonomy.inputs(home)["taxonomy"]
    (home.root / "my.toml").write_text("[synonyms]\nfox = ['fox ears']\n")
    assert with_taxonomy.inputs(home)["taxonomy"] != digest
    merge(home, "--taxonomy", "my.toml", "--synonyms")
    assert any(", fox," in caption for caption in captions(home))


def test_groups_of_the_recipe(home):
    recipe = home.recipe.read_text() + '[[group]]\nimages = ["1.jpg", "2?.jpg"]\nkeywords = ["studio", "full body"]\n'
    home.recipe.write_text(recipe)
    merge(home)
    found = {r.source: r.caption for r in Manifest.read(home.manifest("merge")).records()}
    meant = {"raw/1.jpg", *(f"raw/{n}.jpg" for n in range(20, 25))}
    assert {source for source, caption in found.items() if caption.endswith(", studio, full body")} == meant
    assert {source for source, caption in found.items() if "studio" in caption} == meant
