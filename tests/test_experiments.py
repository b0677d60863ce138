"""The experiments' arithmetic: what counts as bound, followed and drifted, and what a verdict is worth."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from benchmarks import overfitting, world
from benchmarks.experiments import EXPERIMENTS, Outcome, table, turns
from benchmarks.judge import Prompt, Verdict, judge, own_tags, prompts
from benchmarks.overfitting import Checkpoint, agreement, regret

OWN = ("apron", "beard", "red hat")


def test_own_is_what_a_subject_always_shows_and_others_rarely():
    own = own_tags("smith", 100)
    assert {"beard", "apron", "blue shirt"} <= set(own)
    assert not {"1boy", "solo", "smile", "forge", "short hair"} & set(own)  # always there, or just as often elsewhere
    assert {"twintails", "scarf"} <= set(own_tags("wren", 100))


def test_prompts_of_every_kind_with_what_they_ask_for():
    asked = prompts("smith", "1boy", 9)
    kinds = [one.about for one in asked]
    assert [kinds.count(kind) for kind in ("bound", "follow", "class")] == [9, 9, 9]
    assert {one.text for one in asked if one.about == "class"} == {"1boy"}
    follow = [one for one in asked if one.about == "follow"]
    assert all(one.text == ", ".join(("smith", *one.wanted)) for one in follow)
    assert len({one.text for one in follow}) == 9


def test_a_sample_shows_the_subject_with_all_its_own_but_one():
    asked = [Prompt("s", "bound"), Prompt("s", "bound"), Prompt("s, x, y", "follow", ("x", "y")), Prompt("c", "class")]
    found = judge(asked, [{"beard", "apron", "x"}, {"beard"}, {"y", "beard"}, set()], OWN)
    assert found == Verdict(bound=0.5, follow=0.5, drift=0.0)
    found = judge(asked, [{"beard"}, set(), {"x", "y"}, {"beard"}], OWN)
    assert found == Verdict(bound=0.0, follow=1.0, drift=1 / 3)


def test_arms_take_turns():
    order = [(arm.name, seed) for arm, seed in turns("merging", 2)]
    names = [arm.name for arm in EXPERIMENTS["merging"]]
    assert order == [(name, seed) for seed in (0, 1) for name in names]


def test_a_table_has_the_base_and_each_arm_with_its_range():
    low, high = Verdict(0.1, 0.9, 0.1), Verdict(0.8, 0.7, 0.2)
    rows = table([Outcome("a", 0, low, high, 61.0, 5_000), Outcome("a", 1, low, Verdict(0.6, 0.7, 0.2), 60.0, 5_000)])
    head, base, arm = rows.splitlines()
    assert head.split() == ["bound", "follow", "drift", "seconds", "kB"]
    assert base.split("  ")[0] == "the base" and "10 % (10-10)" in base
    assert arm.startswith("a ") and "70 % (60-80)" in arm and arm.split()[-1] == "5"


def _point(step, bound, follow, word="good", chosen=False):
    return Checkpoint(0, step, 0.1, word, chosen, Verdict(bound, follow, 0.0))


def test_what_prep_chose_is_measured_by_the_best_in_hindsight():
    run = [_point(1, 0.2, 0.9), _point(2, 0.8, 0.9), _point(3, 0.8, 0.8, chosen=True)]
    assert regret(run) == pytest.approx(0.05)


def test_agreement_is_about_following_less_than_once():
    run = [_point(1, 0.1, 0.8), _point(2, 0.5, 0.7, "overfit"), _point(3, 0.9, 0.75), _point(4, 1.0, 0.5, "overfit")]
    assert agreement(run) == 1.0
    assert agreement([_point(1, 0.1, 0.8), _point(2, 0.5, 0.4), _point(3, 0.9, 0.8, "overfit")]) == pytest.approx(1 / 3)
    assert "prep's choice, worth" in overfitting.table([[_point(1, 0.5, 0.5, chosen=True)]])


def test_outcomes_are_written_as_they_come(tmp_path):
    world.write({"few": [Outcome("a", 0, Verdict(0, 0, 0), Verdict(1, 1, 1), 1.0, 2)]}, tmp_path / "f.json")
    assert json.loads((tmp_path / "f.json").read_text())["few"][0]["trained"] == {"bound": 1, "follow": 1, "drift": 1}


def test_an_unknown_experiment_is_refused():
    done = CliRunner().invoke(world.main, ["luck"])
    assert done.exit_code == 2 and "'luck' is not one of" in done.output
