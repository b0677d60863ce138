"""The experiments' arithmetic: what counts as bound, followed and drifted, and what a verdict is worth."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import scipy.stats
from click.testing import CliRunner

from benchmarks import overfitting, world
from benchmarks.training_variants import EXPERIMENTS, TrainingVariant, train_options
from benchmarks.experiments import ExperimentResult, table
from benchmarks.sample_scores import SubjectTags, SamplePrompt, SampleScores, score_samples, subject_tags, prompts
from benchmarks.overfitting import VARIANT, CheckpointScores, agreement, regret
from benchmarks.experiment_runner import ResultsFile, Job, list_jobs

LOOKS = SubjectTags("1boy", ("apron", "beard", "red hat"))
LOW, HIGH = SampleScores(0.1, 0.9, 0.1), SampleScores(0.8, 0.7, 0.2)


def test_own_is_what_a_subject_always_shows_and_others_rarely():
    smith = subject_tags("smith", 100)
    assert smith.class_tag == "1boy" and {"beard", "apron", "blue shirt"} <= set(smith.tags)
    assert not {"1boy", "solo", "smile", "forge", "short hair"} & set(smith.tags)  # not always, or often elsewhere
    wren = subject_tags("wren", 100)
    assert wren.class_tag == "1girl" and {"twintails", "scarf"} <= set(wren.tags)


def test_an_image_shows_the_subject_with_all_its_own_but_one():
    assert LOOKS.is_shown({"1boy", "apron", "beard", "red hat", "forest"})
    assert LOOKS.is_shown({"1boy", "beard", "red hat"})
    assert not LOOKS.is_shown({"1boy", "beard"})
    assert not LOOKS.is_shown({"1girl", "apron", "beard", "red hat"})


def test_prompts_of_every_kind_with_what_they_ask_for():
    asked = prompts("smith", "1boy", 9)
    kinds = [one.measures for one in asked]
    assert [kinds.count(kind) for kind in ("bound", "follow", "class")] == [9, 9, 9]
    assert {one.text for one in asked if one.measures == "class"} == {"1boy"}
    follow = [one for one in asked if one.measures == "follow"]
    assert all(one.text == ", ".join(("smith", *one.tags)) for one in follow)
    assert len({one.text for one in follow}) == 9


def test_a_verdict_is_the_share_of_samples_of_each_kind():
    asked = [
        SamplePrompt("s", "bound"),
        SamplePrompt("s", "bound"),
        SamplePrompt("s, x, y", "follow", ("x", "y")),
        SamplePrompt("c", "class"),
    ]
    him = {"1boy", "beard", "apron"}
    assert score_samples(asked, [him, {"beard"}, {"y", "beard"}, set()], LOOKS) == SampleScores(
        subject_fidelity=0.5, prompt_adherence=0.5, class_leakage=0.0
    )
    assert score_samples(asked, [set(), set(), {"x", "y"}, him], LOOKS) == SampleScores(
        subject_fidelity=0.0, prompt_adherence=1.0, class_leakage=1.0
    )


def test_arms_take_turns_and_what_experiments_share_is_run_once():
    order = [(turn.variant.name, turn.seed) for turn in list_jobs(["merging", "regularization", "overfitting"], 2)]
    names = [arm.name for name in ("merging", "regularization") for arm in EXPERIMENTS[name]]
    assert len(set(names)) == len(names) - 1
    assert order == [(name, seed) for seed in (0, 1) for name in [*dict.fromkeys(names), "overfitting"]]
    assert list_jobs(["overfitting"], 1)[0].variant == VARIANT


def test_arms_of_one_name_are_the_same():
    named: dict[str, TrainingVariant] = {}
    for arm in (arm for arms in EXPERIMENTS.values() for arm in arms):
        assert named.setdefault(arm.name, arm) == arm


def test_a_table_has_the_base_and_each_arm_with_its_range():
    rows = table(
        [
            ExperimentResult("a", 0, LOW, HIGH, 61.0, 5_000),
            ExperimentResult("a", 1, LOW, SampleScores(0.6, 0.7, 0.2), 60.0, 5_000),
        ]
    )
    head, base, arm = rows.splitlines()
    assert head.split() == ["bound", "follow", "drift", "seconds", "kB"]
    assert base.split("  ")[0] == "the base" and "10 % (10-10)" in base
    assert arm.startswith("a ") and "70 % (60-80)" in arm and arm.split()[-1] == "5"


def _point(step, bound, follow, word="good", chosen=False, halves=None):
    middle = (bound + follow) / 2
    return CheckpointScores(0, step, 0.7, word, chosen, SampleScores(bound, follow, 0.0), halves or (middle, middle))


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
    kinds = [one.measures for one in prompts("smith", "1boy", overfitting.PER_KIND)]
    assert sorted(early + late) == list(range(len(kinds)))
    assert Counter(kinds[at] for at in early) == Counter(kinds[at] for at in late)


def test_ranks_of_error_and_following_are_correlated():
    run = [
        dataclasses.replace(_point(k, 0.5, follow), error=error)
        for k, (follow, error) in enumerate([(0.7, 0.6), (0.6, 0.7), (0.6, 0.8), (0.1, 2.0)])
    ]
    assert overfitting._ranks([0.7, 0.6, 0.6, 0.1]) == [3, 1.5, 1.5, 0]
    assert overfitting.rank_correlation(run) == pytest.approx(
        float(scipy.stats.spearmanr([0, 1, 2, 3], [3, 1.5, 1.5, 0])[0])
    )
    assert overfitting.rank_correlation(run) < -0.9


def test_agreement_is_about_following_less_than_once():
    run = [_point(1, 0.1, 0.8), _point(2, 0.5, 0.7, "overfit"), _point(3, 0.9, 0.75), _point(4, 1.0, 0.5, "overfit")]
    assert agreement(run) == 1.0
    assert agreement([_point(1, 0.1, 0.8), _point(2, 0.5, 0.4), _point(3, 0.9, 0.8, "overfit")]) == pytest.approx(1 / 3)
    few = [dataclasses.replace(run[0], error=0.9), dataclasses.replace(run[2], chosen=True)]
    assert "the best by what was held out, worth 0.0% less" in overfitting.table([few])


def test_what_was_found_is_kept_and_not_run_again(tmp_path):
    file = tmp_path / "f.json"
    turn, long = Job(TrainingVariant("a", tables=train_options(rank=4)), 1), Job(VARIANT, 0)
    came, course = ExperimentResult("a", 1, LOW, HIGH, 1.0, 2), [_point(100, 0.2, 0.9, chosen=True)]
    found = ResultsFile(file)
    assert not found.has(turn)
    found.add(turn, came)
    found.add(long, course)
    again = ResultsFile(file)
    assert again.has(turn) and again.has(long)
    assert again.of("overfitting", 1) == [course] and again.known["a", 1] == (turn, came)
    assert not again.has(Job(turn.variant, 0))
    assert not again.has(
        Job(TrainingVariant("a", tables=train_options(rank=8)), 1)
    )  # what is another arm by now is run again
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]


def test_an_unknown_experiment_is_refused():
    done = CliRunner().invoke(world.main, ["luck"])
    assert done.exit_code == 2 and "'luck' is not one of" in done.output
