from __future__ import annotations

import pytest

from pipeline.edits import Edit
from pipeline.errors import PrepError
from pipeline.filter import parse
from pipeline.journal import Journal
from pipeline.review.state import Review, latest_reviewable
from tests.make import record, workspace
from tests.review_set import review_set
from tests.shell import prep


@pytest.fixture
def review(tmp_path):
    return Review.open(review_set(tmp_path))


def look_at(review, name):
    """Make the original with a file name the current image."""
    at = next(n for n, r in enumerate(review.table.records) if r.source == f"raw/{name}.jpg" and "-" not in r.id)
    review.position = review.rows.tolist().index(at)


def show(review, text):
    review.apply_filter(parse(text))


def captions(review):
    return {r.id: review.composed(review.table.record(row)).caption for row, r in enumerate(review.table.records)}


def test_images_that_a_stage_dropped_are_shown_only_where_asked_for(review):
    assert (len(review.table), review.total) == (7, 6)
    show(review, "dropped")
    assert [review.table.records[row].source for row in review.rows] == ["raw/5.jpg"]
    show(review, "NOT dropped")
    assert len(review.rows) == 6


def test_the_caption_is_the_one_that_merge_will_write(review):
    look_at(review, 4)
    assert review.composed(review.record).caption == "smith, apron, hat, long hair, hammer"
    review.decide([Edit("remove", "hat"), Edit("add", "bow")])
    assert review.composed(review.record).caption == "smith, bow, apron, long hair, hammer"
    assert [str(e) for e in Journal.read(review.workspace).of(review.record.id)] == ["remove hat", "add bow"]


def test_moving_stays_inside(review):
    review.move(-1)
    assert review.position == 0
    review.move(99)
    assert review.position == 5
    show(review, "no_such_tag")
    assert review.row is None and review.record is None and review.targets == []
    review.move(1)
    review.toggle_selected()
    assert review.decide([Edit("drop")]) is None and not review.selected


def test_a_filter_keeps_the_image_in_sight(review):
    look_at(review, 3)
    row = review.row
    show(review, "hammer")
    assert review.row == row and len(review.rows) < 6
    show(review, "")
    assert review.row == row


def test_decisions_concern_the_chosen_or_else_the_one_in_sight(review):
    first, _, third, *_ = review.rows.tolist()
    assert review.targets == [first]
    review.toggle_selected()
    review.move(2)
    review.toggle_selected()
    assert review.targets == sorted([first, third])
    review.select_all()
    assert review.targets == sorted(review.rows.tolist())
    review.select_all()
    assert review.selected == set()
    review.select_all()
    entry = review.decide([Edit("add", "photo")])
    assert len(entry.ids) == 5, "the copy takes it over from its root"
    assert sum("photo" in caption for caption in captions(review).values()) == 6


def test_undo_and_redo_show_at_once(review):
    before = captions(review)
    look_at(review, 1)
    review.decide([Edit("set", "mine")])
    after = captions(review)
    assert sum(before[id] != after[id] for id in before) == 2, "the image and its copy"
    review.undo()
    assert captions(review) == before and review.table.edited == {}
    review.redo()
    assert captions(review) == after
    assert review.redo() is None and review.undo() and review.undo() is None


def test_flags_and_drops_are_of_all_targets_or_not(review):
    review.decide([Edit("flag", "unsure"), Edit("drop")])
    assert review.flagged("unsure") and review.dropped() and not review.flagged("other")
    review.select_all()
    assert not review.flagged("unsure") and not review.dropped()


def test_what_an_earlier_merge_noted_gives_way_to_the_journal(tmp_path):
    place = review_set(tmp_path)
    review = Review.open(place)
    look_at(review, 4)
    id = review.record.id
    review.decide([Edit("replace", "hat", "cap"), Edit("flag", "unsure"), Edit("drop")])
    prep("-C", tmp_path, "merge", "-q")
    assert latest_reviewable(place).path.stem == "merge"
    again = Review.open(place)
    row = again.table.row_by_id[id]
    assert again.table.view(row).tags >= {"cap"} and "hat" not in again.table.view(row).tags
    assert parse("dropped flag:unsure").sees(again.table.view(row)) and again.total == 6
    again.undo()
    assert again.composed(again.table.record(row)).caption == "smith, apron, hat, long hair, hammer"
    view = again.table.view(row)
    assert view.edits == () and "hat" in view.tags and "cap" not in view.tags and view.record.kept
    assert view.caption == "smith, apron, hat, long hair, hammer"


def test_the_latest_manifest_is_the_one_of_the_present_tags(tmp_path):
    place = workspace(tmp_path)
    with pytest.raises(PrepError, match="no images to review yet"):
        Review.open(place)
    review_set(tmp_path)
    assert latest_reviewable(place).path.stem == "tag"
    prep("-C", tmp_path, "merge", "-q")
    assert latest_reviewable(place).path.stem == "merge"
    from pipeline.history import HistoryStep
    from pipeline.manifest import write_manifest

    write_manifest(place.manifest("tag"), [[record(1)]], (HistoryStep("scan", 1, {}, "new"),))
    assert latest_reviewable(place).path.stem == "tag", "merge knows nothing of the new tags"
