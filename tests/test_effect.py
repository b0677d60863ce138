"""Options of merge that change no caption are refused; those that some captions do not take are counted."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from pipeline.cli.main import cli
from pipeline.edits import Edit
from pipeline.errors import PrepError
from pipeline.journal import Journal
from pipeline.manifest import Manifest
from stages.merge import Merge
from stages.merging.effect import refuse_without_effect, set_options, unmatched_tags, whole_captions
from tests.make import record
from tests.review_set import review_set


@pytest.fixture
def home(tmp_path):
    """Images 0.jpg to 4.jpg with tags, a copy of 1.jpg, and a broken 5.jpg."""
    return review_set(tmp_path)


@pytest.fixture
def tags(home):
    return Manifest.read(home.manifest("tag"))


def set_captions(home, *numbers):
    journal = Journal.read(home)
    for number in numbers:
        journal.append(home, [record(number).id], [Edit("set", f"smith, by hand {number}")])
    return journal


def merge(home, *args):
    return CliRunner().invoke(cli, ["-C", str(home.root), "merge", *args], standalone_mode=False)


def test_captions_that_were_set_are_counted_with_their_copies_and_without_dropped_ones(home, tags):
    assert whole_captions(tags, Journal.read(home)) == (0, 6)
    journal = set_captions(home, 1, 3, 5)
    assert whole_captions(tags, journal) == (3, 6)
    journal.append(home, [record(3).id], [Edit("drop")])
    journal.append(home, [record(1).id], [Edit("reset")])
    assert whole_captions(tags, journal) == (0, 5)


def test_what_changes_nothing_is_refused_with_the_edit_that_does(home, tags):
    journal = set_captions(home, *range(5))
    given = {"remove": ("hat",), "replace": ("apron=red apron",), "add": ("a b",), "underscores": True}
    with pytest.raises(PrepError) as caught:
        refuse_without_effect(given, tags, journal)
    assert "--remove, --replace, --add, --underscores" in caught.value.wrong and "all 6 captions" in caught.value.wrong
    assert "prep edit --all --remove hat --add 'a b' --replace apron 'red apron'" in caught.value.hint
    with pytest.raises(PrepError, match="prep edit --all --add TAG"):
        refuse_without_effect({"prefix": "x"}, tags, journal)
    refuse_without_effect({}, tags, journal)
    refuse_without_effect(given, tags, set_captions(home) if journal.undo(home) else journal)


@pytest.mark.parametrize(
    "options", [["--remove", "hat"], ["--prefix", "best"], ["--absorb", "hat"], ["--order", "name"]]
)
def test_the_command_refuses_before_it_writes(home, options):
    set_captions(home, *range(5))
    assert isinstance(merge(home, *options).exception, PrepError)
    assert not home.manifest("merge").exists()
    assert merge(home).exception is None


def test_the_command_counts_what_it_leaves_as_it_is(home):
    set_captions(home, 1, 3)
    done = merge(home, "--remove", "apron", "--prefix", "best")
    assert "3 of 6 captions set as a whole" in done.output
    assert "remove" in done.output and "prefix" in done.output
    captions = {one.source: one.caption for one in Manifest.read(home.manifest("merge")).records() if one.kept}
    assert captions["raw/1.jpg"] == "smith, by hand 1" and captions["raw/2.jpg"].startswith("best, smith")


def test_tags_that_no_image_has_are_named_with_the_one_that_was_meant(home, tags):
    given = {"remove": ("apronn, hat", "word:nothing", "regex:^x"), "replace": ("long hair=bob",)}
    (line,) = unmatched_tags(given, tags)
    assert "--remove" in line and "'apronn'" in line and "'apron'" in line
    given = {"absorb": ("smith=beart",), "pinned": ("1boy", "xyz")}
    assert [line.partition(":")[0] for line in unmatched_tags(given, tags)] == ["--absorb", "--pinned"]
    assert list(unmatched_tags({"add": ("anything",), "prefix": "x"}, tags)) == []


def test_options_that_are_set_are_those_that_differ_from_their_defaults():
    assert set_options(Merge()) == {}
    assert set_options(Merge(remove=("hat",), order="name")) == {"remove": ("hat",), "order": "name"}
