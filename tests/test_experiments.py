"""The arithmetic of the experiments: the three scores, and the quality of prep's choice of a checkpoint."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import scipy.stats
from click.testing import CliRunner

from benchmarks import overfitting, world
from benchmarks.experiment_runner import Job, ResultsFile, list_jobs
from benchmarks.experiments import ExperimentResult, _init_workspace, draw_images, table
from benchmarks.overfitting import VARIANT, CheckpointScores, agreement, regret
from benchmarks.sample_scores import SamplePrompt, SampleScores, SubjectTags, prompts, score_samples, subject_tags
from benchmarks.training_variants import EXPERIMENTS, TrainingVariant, train_options
from pipeline.registry import all_stages, read_recipe
from pipeline.workspace import Workspace

LOOKS = SubjectTags("1boy", ("apron", "beard", "red hat"))
LOW, HIGH = SampleScores(0.1, 0.9, 0.1), SampleScores(0.8, 0.7, 0.2)


def test_subject_tags_are_on_nearly_all_its_images_and_on_few_others():
    smith = subject_tags("smith", 100)
    assert smith.class_tag == "1boy" and {"beard", "apron", "blue shirt"} <= set(smith.tags)
    assert not {"1boy", "solo", "smile", "forge", "short hair"} & set(smith.tags)  # not always, or often elsewhere
    wren = subject_tags("wren", 100)
    assert wren.class_tag == "1girl" and {"twintails", "scarf"} <= set(wren.tags)


def test_one_missing_subject_tag_is_tolerated():
    assert LOOKS.is_shown({"1boy", "apron", "beard", "red hat", "forest"})
    assert LOOKS.is_shown({"1boy", "beard", "red hat"})
    assert not LOOKS.is_shown({"1boy", "beard"})
    assert not LOOKS.is_shown({"1girl", "apron", "beard", "red hat"})


def test_prompts_for_every_score_with_their_tags():
    sample_prompts = prompts("smith", "1boy", 9)
    kinds = [one.measures for one in sample_prompts]
    assert [kinds.count(kind) for kind in ("subject", "prompt", "class")] == [9, 9, 9]
    assert {one.text for one in sample_prompts if one.measures == "class"} == {"1boy"}
    adherence = [one for one in sample_prompts if one.measures == "prompt"]
    assert all(one.text == ", ".join(("smith", *one.tags)) for one in adherence)
    assert len({one.text for one in adherence}) == 9


def test_scores_are_shares_of_samples():
    sample_prompts = [
        SamplePrompt("s", "subject"),
        SamplePrompt("s", "subject"),
        SamplePrompt("s, x, y", "prompt", ("x", "y")),
        SamplePrompt("c", "class"),
    ]
    him = {"1boy", "beard", "apron"}
    assert score_samples(sample_prompts, [him, {"beard"}, {"y", "beard"}, set()], LOOKS) == SampleScores(
        subject_fidelity=0.5, prompt_adherence=0.5, class_leakage=0.0
    )
    assert score_samples(sample_prompts, [set(), set(), {"x", "y"}, him], LOOKS) == SampleScores(
        subject_fidelity=0.0, prompt_adherence=1.0, class_leakage=1.0
    )


def test_jobs_are_ordered_by_seed_and_shared_variants_run_once():
    order = [(job.variant.name, job.seed) for job in list_jobs(["merging", "regularization", "overfitting"], 2)]
    names = [variant.name for name in ("merging", "regularization") for variant in EXPERIMENTS[name]]
    assert len(set(names)) == len(names) - 1
    assert order == [(name, seed) for seed in (0, 1) for name in [*dict.fromkeys(names), "overfitting"]]
    assert list_jobs(["overfitting"], 1)[0].variant == VARIANT


def test_variants_of_one_name_are_equal():
    named: dict[str, TrainingVariant] = {}
    for variant in (variant for variants in EXPERIMENTS.values() for variant in variants):
        assert named.setdefault(variant.name, variant) == variant


@pytest.mark.parametrize("variant", [*{v.name: v for vs in EXPERIMENTS.values() for v in vs}.values(), VARIANT])
def test_every_variant_is_a_valid_recipe(tmp_path, variant):
    """Its tables name options that exist, with values that they accept."""
    draw_images(dataclasses.replace(variant, num_images=1, num_class_images=0), 0, tmp_path / "images")
    variant = dataclasses.replace(variant, num_class_images=0)
    _init_workspace(variant, 0, tmp_path / "images", tmp_path / "workspace")
    recipe = read_recipe(Workspace(tmp_path / "workspace"))
    assert "train" in {plan.name for plan in all_stages(recipe)}
    assert recipe.tables["train"].items() >= variant.tables["train"].items()


def test_a_table_has_the_base_model_and_each_variant_with_its_range():
    rows = table(
        [
            ExperimentResult("a", 0, LOW, HIGH, 61.0, 5_000),
            ExperimentResult("a", 1, LOW, SampleScores(0.6, 0.7, 0.2), 60.0, 5_000),
        ]
    )
    head, base, variant = rows.splitlines()
    assert head.split() == ["subject", "fidelity", "prompt", "adherence", "class", "leakage", "seconds", "kB"]
    assert base.split("  ")[0] == "base model" and "10 % (10-10)" in base
    assert variant.startswith("a ") and "70 % (60-80)" in variant and variant.split()[-1] == "5"


def _point(step, fidelity, adherence, word="good", chosen=False, halves=None):
    middle = (fidelity + adherence) / 2
    return CheckpointScores(
        0, step, 0.7, word, chosen, SampleScores(fidelity, adherence, 0.0), halves or (middle, middle)
    )


def test_regret_is_measured_against_the_best_in_hindsight():
    run = [_point(1, 0.2, 0.9), _point(2, 0.8, 0.9), _point(3, 0.8, 0.8, chosen=True)]
    assert regret(run) == pytest.approx(0.05)
    assert regret([*run, _point(4, 0.8, 0.7)], last=True) == pytest.approx(0.1)


def test_the_luck_of_selection_does_not_count():
    """Each half has another best, which the other half does not confirm: the choice is as good as any."""
    run = [
        _point(1, 0, 0, halves=(0.9, 0.5)),
        _point(2, 0, 0, halves=(0.5, 0.9)),
        _point(3, 0, 0, chosen=True, halves=(0.6, 0.6)),
    ]
    assert regret(run) == pytest.approx(-0.1)


def test_each_half_has_half_of_the_prompts_for_every_score(monkeypatch):
    early, late = overfitting._halves()
    kinds = [one.measures for one in prompts("smith", "1boy", overfitting.PER_KIND)]
    assert sorted(early + late) == list(range(len(kinds)))
    assert Counter(kinds[at] for at in early) == Counter(kinds[at] for at in late)


def test_rank_correlation_of_loss_and_adherence():
    run = [
        dataclasses.replace(_point(k, 0.5, adherence), held_out_loss=loss)
        for k, (adherence, loss) in enumerate([(0.7, 0.6), (0.6, 0.7), (0.6, 0.8), (0.1, 2.0)])
    ]
    assert overfitting._ranks([0.7, 0.6, 0.6, 0.1]) == [3, 1.5, 1.5, 0]
    assert overfitting.rank_correlation(run) == pytest.approx(
        float(scipy.stats.spearmanr([0, 1, 2, 3], [3, 1.5, 1.5, 0])[0])
    )
    assert overfitting.rank_correlation(run) < -0.9


def test_agreement_is_about_fallen_adherence():
    run = [_point(1, 0.1, 0.8), _point(2, 0.5, 0.7, "overfit"), _point(3, 0.9, 0.75), _point(4, 1.0, 0.5, "overfit")]
    assert agreement(run) == 1.0
    assert agreement([_point(1, 0.1, 0.8), _point(2, 0.5, 0.4), _point(3, 0.9, 0.8, "overfit")]) == pytest.approx(1 / 3)
    few = [dataclasses.replace(run[0], held_out_loss=0.9), dataclasses.replace(run[2], chosen=True)]
    assert "prep's choice by held-out loss: 0.0% worse" in overfitting.table([few])


def test_results_are_kept_and_not_run_again(tmp_path):
    file = tmp_path / "f.json"
    job, long = Job(TrainingVariant("a", tables=train_options(rank=4)), 1), Job(VARIANT, 0)
    result, course = ExperimentResult("a", 1, LOW, HIGH, 1.0, 2), [_point(100, 0.2, 0.9, chosen=True)]
    results = ResultsFile(file)
    assert not results.has(job)
    results.add(job, result)
    results.add(long, course)
    again = ResultsFile(file)
    assert again.has(job) and again.has(long)
    assert again.of("overfitting", 1) == [course] and again.known["a", 1] == (job, result)
    assert not again.has(Job(job.variant, 0))
    assert not again.has(Job(TrainingVariant("a", tables=train_options(rank=8)), 1))  # a changed variant is run again
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]


def test_an_unknown_experiment_is_refused():
    done = CliRunner().invoke(world.main, ["luck"])
    assert done.exit_code == 2 and "'luck' is not one of" in done.output
