from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PrepError
from pipeline.workspace import Workspace
from stages.merging.plan import (
    PLAN,
    SUGGESTION,
    USER_DECISION,
    MergePlan,
    MergeRow,
    read_plan,
    save_plan,
    undo_plan,
    write_plan,
)
from stages.merging.tag_taxonomy import read_taxonomy

KINDS = read_taxonomy()


def row(tag, action="keep", subject="smith", reason="in 12% of the images"):
    return MergeRow(subject, tag, 3.0, 0.12, 0.5, None, -1.25, action, reason)


def plan(*rows):
    return MergePlan(rows, "digest", ("smith: 25 images.",))


BEARD = plan(row("beard", "review"), row("facial hair"), row("hat"), row("smile"), row("beard", subject="anna"))


def actions(found):
    return {(r.subject, r.tag): r.action for r in found.rows}


def test_a_plan_is_what_was_written(tmp_path):
    home = Workspace(tmp_path)
    assert read_plan(home) is None
    write_plan(home, BEARD, SUGGESTION)
    assert read_plan(home, SUGGESTION) == BEARD and read_plan(home) is None


def test_deciding_by_tag_by_subject_and_what_is_implied():
    found = BEARD.changed({"absorb": ("smith=Beard",), "drop": ("hat",)}, KINDS)
    assert actions(found) == {
        ("smith", "beard"): "absorb",
        ("smith", "facial hair"): "drop",
        ("smith", "hat"): "drop",
        ("smith", "smile"): "keep",
        ("anna", "beard"): "keep",
    }
    reasons = {r.tag: r.reason for r in found.rows if r.subject == "smith"}
    assert (reasons["beard"], reasons["facial hair"]) == (USER_DECISION, "implied by beard")
    both = BEARD.changed({"absorb": ("beard",), "keep": ("facial hair",)}, KINDS)
    assert {k for k, action in actions(both).items() if action == "absorb"} == {("smith", "beard"), ("anna", "beard")}
    assert actions(both)["smith", "facial hair"] == "keep"


def test_what_the_user_decided_is_not_dropped_by_an_implication_later():
    kept = BEARD.changed({"keep": ("facial hair",)}, KINDS)
    assert actions(kept.changed({"absorb": ("beard",)}, KINDS))["smith", "facial hair"] == "keep"


@pytest.mark.parametrize(
    ("rules", "reported"),
    [
        ({"absorb": ("beerd",)}, "The plan has no tag 'beerd'"),
        ({"absorb": ("anna=hat",)}, "The plan has no tag 'anna=hat'"),
        ({"absorb": ("hat",), "keep": ("smith=hat",)}, "'hat' is given to --absorb and to --keep"),
    ],
)
def test_what_cannot_be_decided(rules, reported):
    with pytest.raises(PrepError, match=reported):
        BEARD.changed(rules, KINDS)


def test_accepting_again_keeps_what_the_user_decided():
    mine = BEARD.changed({"keep": ("beard",), "drop": ("hat",)}, KINDS)
    newer = plan(row("beard", "absorb"), row("smile"), row("scar", "absorb"), row("beard", "absorb", "anna"))
    found = newer.accepted(mine, KINDS)
    assert actions(found) == {
        ("smith", "beard"): "keep",
        ("smith", "smile"): "keep",
        ("smith", "scar"): "absorb",
        ("anna", "beard"): "keep",
        ("smith", "hat"): "drop",  # no longer said, still decided
    }
    assert newer.accepted(None, KINDS) == newer
    assert found.accepted(found, KINDS) == found


def test_the_digest_is_of_what_changes_captions():
    assert plan().digest == plan(row("hat")).digest == ""
    one = plan(row("hat", "absorb"), row("cap", "drop"))
    assert one.digest == plan(row("cap", "drop", reason="other"), row("smile"), row("hat", "absorb")).digest
    assert (
        len({one.digest, plan(row("hat", "drop"), row("cap", "drop")).digest, plan(row("hat", "absorb")).digest}) == 3
    )


decisions = st.lists(st.tuples(st.sampled_from(["absorb", "keep", "drop"]), st.sampled_from(["hat", "smile", "beard"])))


@settings(max_examples=40, deadline=None)
@given(decisions)
def test_every_change_can_be_taken_back_to_the_first(steps):
    with tempfile.TemporaryDirectory() as folder:
        home = Workspace(Path(folder))
        states = [None]
        now = BEARD
        for step in [None, *steps]:
            now = now if step is None else now.changed({step[0]: (step[1],)}, KINDS)
            if save_plan(home, now):
                states.append(now)
            assert read_plan(home) == now
            assert not save_plan(home, now)  # said again, nothing changes and nothing is to take back
        for before in reversed(states[:-1]):
            assert undo_plan(home) == before == read_plan(home)
        with pytest.raises(PrepError, match="There is no plan to undo"):
            undo_plan(home)


def test_a_crash_between_the_two_writes_loses_nothing(tmp_path, monkeypatch):
    home = Workspace(tmp_path)
    save_plan(home, BEARD)

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr("stages.merging.plan.write_plan", full)
    with pytest.raises(OSError, match="disk full"):
        save_plan(home, BEARD.changed({"drop": ("hat",)}, KINDS))
    assert read_plan(home) == BEARD
    assert undo_plan(home) == BEARD  # the step that changes nothing
    assert undo_plan(home) is None


def test_a_damaged_plan_is_said(tmp_path):
    home = Workspace(tmp_path)
    save_plan(home, BEARD)
    path = home.path(PLAN)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(PrepError, match=r"plan\.parquet is damaged"):
        read_plan(home)
    write_plan(home, plan(replace(row("hat"), action="eat")))
    with pytest.raises(PrepError, match="there is no action 'eat'"):
        read_plan(home)
