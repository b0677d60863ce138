"""The experiments' arithmetic: what counts as bound, followed and drifted, and what a verdict is worth."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import scipy.stats
from click.testing import CliRunner

from benchmarks import overfitting, world
from benchmarks.arms import EXPERIMENTS, Arm, learned
from benchmarks.experiments import Outcome, table
from benchmarks.judge import Looks, Prompt, Verdict, judge, looks_of, prompts
from benchmarks.overfitting import LONG, Checkpoint, agreement, regret
from benchmarks.turns import Found, Turn, turns

LOOKS = Looks("1boy", ("apron", "beard", "red hat"))
LOW, HIGH = Verdict(0.1, 0.9, 0.1), Verdict(0.8, 0.7, 0.2)


def test_own_is_what_a_subject_always_shows_and_others_rarely():
    smith = looks_of("smith", 100)
    assert smith.kind == "1boy" and {"beard", "apron", "blue shirt"} <= set(smith.own)
    assert not {"1boy", "solo", "smile", "forge", "short hair"} & set(smith.own)  # not always, or often elsewhere
    wren = looks_of("wren", 100)
    assert wren.kind == "1girl" and {"twintails", "scarf"} <= set(wren.own)


def test_an_image_shows_the_subject_with_all_its_own_but_one():
    assert LOOKS.seen_in({"1boy", "apron", "beard", "red hat", "forest"})
    assert LOOKS.seen_in({"1boy", "beard", "red hat"})
    assert not LOOKS.seen_in({"1boy", "beard"})
    assert not LOOKS.seen_in({"1girl", "apron", "beard", "red hat"})


def test_prompts_of_every_kind_with_what_they_ask_for():
    asked = prompts("smith", "1boy", 9)
    kinds = [one.about for one in asked]
    assert [kinds.count(kind) for kind in ("bound", "follow", "class")] == [9, 9, 9]
    assert {one.text for one in asked if one.about == "class"} == {"1boy"}
    follow = [one for one in asked if one.about == "follow"]
    assert all(one.text == ", ".join(("smith", *one.wanted)) for one in follow)
    assert len({one.text for one in follow}) == 9


def test_a_verdict_is_the_share_of_samples_of_each_kind():
    asked = [Prompt("s", "bound"), Prompt("s", "bound"), Prompt("s, x, y", "follow", ("x", "y")), Prompt("c", "class")]
    him = {"1boy", "beard", "apron"}
    assert judge(asked, [him, {"beard"}, {"y", "beard"}, set()], LOOKS) == Verdict(bound=0.5, follow=0.5, drift=0.0)
    assert judge(asked, [set(), set(), {"x", "y"}, him], LOOKS) == Verdict(bound=0.0, follow=1.0, drift=1.0)


def test_arms_take_turns_and_what_experiments_share_is_run_once():
    order = [(turn.arm.name, turn.seed) for turn in turns(["merging", "regularization", "overfitting"], 2)]
    names = [arm.name for name in ("merging", "regularization") for arm in EXPERIMENTS[name]]
    assert len(set(names)) == len(names) - 1
    assert order == [(name, seed) for seed in (0, 1) for name in [*dict.fromkeys(names), "overfitting"]]
    assert turns(["overfitting"], 1)[0].arm == LONG


def test_arms_of_one_name_are_the_same():
    named: dict[str, Arm] = {}
    for arm in (arm for arms in EXPERIMENTS.values() for arm in arms):
        assert named.setdefault(arm.name, arm) == arm


def test_a_table_has_the_base_and_each_arm_with_its_range():
    rows = table([Outcome("a", 0, LOW, HIGH, 61.0, 5_000), Outcome("a", 1, LOW, Verdict(0.6, 0.7, 0.2), 60.0, 5_000)])
    head, base, arm = rows.splitlines()
    assert head.split() == ["bound", "follow", "drift", "seconds", "kB"]
    assert base.split("  ")[0] == "the base" and "10 % (10-10)" in base
    assert arm.startswith("a ") and "70 % (60-80)" in arm and arm.split()[-1] == "5"


def _point(step, bound, follow, word="good", chosen=False, halves=None):
    middle = (bound + follow) / 2
    return Checkpoint(0, step, 0.7, word, chosen, Verdict(bound, follow, 0.0), halves or (middle, middle))


def test_what_prep_chose_is_measured_by_the_best_in_hindsight():
    run = [_point(1, 0.2, 0.9), _point(2, 0.8, 0.9), _point(3, 0.8, 0.8, chosen=True)]
    assert regret(run) == pytest.approx(0.05)
    assert regret([*run, _point(4, 0.8, 0.7)], last=True) == pytest.approx(0.1)


def test_the_luck_of_the_best_does_not_count():
    """Each half has a best of its own, which the other half does not confirm: the choice is as good as any."""
    run = [
        _point(1, 0, 0, halves=(0.9, 0.5)),
        _point(2, 0, 0, halves=(0.5, 0.9)),
        _point(3, 0, 0, chosen=True, halves=(0.6, 0.6)),
    ]
    assert regret(run) == pytest.approx(-0.1)


def test_halves_have_half_of_every_kind(monkeypatch):
    early, late = overfitting._halves()
    kinds = [one.about for one in prompts("smith", "1boy", overfitting.EACH)]
    assert sorted(early + late) == list(range(len(kinds)))
    assert Counter(kinds[at] for at in early) == Counter(kinds[at] for at in late)


def test_ranks_of_error_and_following_are_correlated():
    run = [
        dataclasses.replace(_point(k, 0.5, follow), error=error)
        for k, (follow, error) in enumerate([(0.7, 0.6), (0.6, 0.7), (0.6, 0.8), (0.1, 2.0)])
    ]
    assert overfitting._ranks([0.7, 0.6, 0.6, 0.1]) == [3, 1.5, 1.5, 0]
    assert overfitting.ranked(run) == pytest.approx(float(scipy.stats.spearmanr([0, 1, 2, 3], [3, 1.5, 1.5, 0])[0]))
    assert overfitting.ranked(run) < -0.9


def test_agreement_is_about_following_less_than_once():
    run = [_point(1, 0.1, 0.8), _point(2, 0.5, 0.7, "overfit"), _point(3, 0.9, 0.75), _point(4, 1.0, 0.5, "overfit")]
    assert agreement(run) == 1.0
    assert agreement([_point(1, 0.1, 0.8), _point(2, 0.5, 0.4), _point(3, 0.9, 0.8, "overfit")]) == pytest.approx(1 / 3)
    few = [dataclasses.replace(run[0], error=0.9), dataclasses.replace(run[2], chosen=True)]
    assert "the best by what was held out, worth 0.0% less" in overfitting.table([few])


def test_what_was_found_is_kept_and_not_run_again(tmp_path):
    file = tmp_path / "f.json"
    turn, long = Turn(Arm("a", tables=learned(rank=4)), 1), Turn(LONG, 0)
    came, course = Outcome("a", 1, LOW, HIGH, 1.0, 2), [_point(100, 0.2, 0.9, chosen=True)]
    found = Found(file)
    assert not found.has(turn)
    found.add(turn, came)
    found.add(long, course)
    again = Found(file)
    assert again.has(turn) and again.has(long)
    assert again.of("overfitting", 1) == [course] and again.known["a", 1] == (turn, came)
    assert not again.has(Turn(turn.arm, 0))
    assert not again.has(Turn(Arm("a", tables=learned(rank=8)), 1))  # what is another arm by now is run again
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]


def test_an_unknown_experiment_is_refused():
    done = CliRunner().invoke(world.main, ["luck"])
    assert done.exit_code == 2 and "'luck' is not one of" in done.output
