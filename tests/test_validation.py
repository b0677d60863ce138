"""Validation on a toy: paired across checkpoints and resumes, whole after a kill, and what follows from it."""

from __future__ import annotations

import dataclasses

import pyarrow.parquet as pq
import pytest
import torch

from pipeline.errors import PrepError
from tests.toy_job import job
from tests.training_options import train_options
from tests.training_set import sample
from training.checkpoints.checkpoint_callback import RetentionPolicy
from training.checkpoints.run_state import RunPaths, resume_or_start, run_to_end
from training.data.captions import fixed_prompt
from training.data.sampler import seed_of
from training.distributed import DistributedContext
from training.evaluation.validation import (
    LossReading,
    ValidationSet,
    Validator,
    measure_losses,
    relative_losses,
    summarize_evaluations,
)
from training.options.validation import ValidationOptions

TRAIN = [sample(1), sample(2, width=128), sample(3, reg=True, subject="", caption="man"), sample(4)]
HELD = [sample(k, held_out=True) for k in range(10, 14)]


class Killed(Exception):
    """What kill -9 looks like from inside."""


def validated(folder, stop=None, **options):
    """Train a toy with validation every second step, killed after step `stop`; its validator and course."""
    made = job(TRAIN, **{"batch_size": 2, "epochs": 4, "validate_every_epochs": 0, "validate_every_steps": 2} | options)
    place = RunPaths(folder, "key")
    course = resume_or_start(made, place, DistributedContext())
    watch = Validator(
        made, course.train_state, ValidationSet.of(TRAIN, HELD, made.config.validation, 42), place.state_folder
    )
    watch.on_train_begin(course.progress.step)

    def kill(step):
        if step.number == stop:
            raise Killed
        return False

    if not watch.should_stop:
        try:
            run_to_end(
                made,
                course,
                lambda done, total: None,
                (watch.on_step_end, kill),
                RetentionPolicy(lambda: watch.best_step),
            )
        except Killed:
            return watch, course
    watch.finish(folder)
    return watch, course


def rows(folder):
    return pq.read_table(folder / "validation.parquet").to_pylist()


def test_a_loss_by_hand():
    made = job(TRAIN, validation_timesteps=3)
    one = HELD[0]
    stream = torch.Generator().manual_seed(int(one.id, 16))
    clean = torch.randn(1, 4, 8, 8, generator=stream)
    want = []
    for k, time in enumerate((461, 677, 892)):  # the thirds of 354, where half is noise, to 1000
        noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed_of(42, "measured", one.id, k)))
        alpha = made.objective.alphas[time]
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        answer = 0.5 * noisy + len(one.caption) / 100 + time / 1000
        want.append((answer - noise).square().mean())
    assert torch.allclose(measure_losses(made, one), torch.stack(want))


def test_times_in_parts_are_the_same():
    """More times than are shown at once."""
    many = measure_losses(job(TRAIN, validation_timesteps=9), HELD[0])
    assert many.shape == (9,) and len(set(many.tolist())) == 9


def test_flow_matching_is_measured_at_spread_times():
    from training.objective import FlowMatch

    made = dataclasses.replace(job(TRAIN, validation_timesteps=4), objective=FlowMatch(timestep_range=(200, 1000)))
    assert made.objective.validation_timesteps(4).tolist() == [562.5, 687.5, 812.5, 937.5]
    assert bool(measure_losses(made, HELD[0]).isfinite().all())


def test_measuring_leaves_no_trace_and_takes_no_chance():
    made = job(TRAIN, caption_dropout=0.9, shuffle_caption=True, tag_dropout=0.5, random_flip=True, noise_offset=0.5)
    shown = []
    made = dataclasses.replace(
        made,
        latent=lambda draw, read=made.latent: (shown.append(draw), read(draw))[1],
        encode_prompts=lambda captions, ask=made.encode_prompts: (shown.append(captions), ask(captions))[1],
    )
    torch.manual_seed(5)
    first = measure_losses(made, HELD[0])
    assert made.denoiser.grad is None and not first.requires_grad
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    assert torch.equal(first, measure_losses(made, HELD[0]))
    assert shown[0].deterministic
    assert shown[1] == [fixed_prompt(HELD[0], made.config.captions)] * 4


def test_a_plain_draw_is_never_mirrored():
    from training.batch import SampleRef
    from training.setup import flips

    config = train_options(random_flip=True)
    assert {flips(config, SampleRef(sample(k), 0)) for k in range(20)} == {True, False}
    assert {flips(config, SampleRef(sample(k), 0, deterministic=True)) for k in range(20)} == {False}


def test_one_image_does_not_change_another(tmp_path):
    made = job(TRAIN)
    course = resume_or_start(made, RunPaths(tmp_path, "key"), DistributedContext())
    found = []
    for held in (HELD, HELD[:2], HELD[1::-1]):
        watch = Validator(
            made,
            course.train_state,
            ValidationSet.of(TRAIN, held, made.config.validation, 42),
            tmp_path / str(len(found)),
        )
        watch.on_train_begin(0)
        found.append(watch.evaluations[0].validation)
    assert found[1] == found[2] == {id: found[0][id] for id in (HELD[0].id, HELD[1].id)}


def test_all_sets_are_measured_at_the_same_times(tmp_path):
    validated(tmp_path)
    found = rows(tmp_path)
    assert {row["subset"] for row in found} == {"train", "validation", "reg"}
    assert {row["id"] for row in found if row["subset"] == "validation"} == {s.id for s in HELD}
    steps = sorted({row["step"] for row in found})
    assert steps[0] == 0 and steps[1:] == list(range(2, steps[-1] + 1, 2))
    times = {}
    for row in found:
        times.setdefault((row["step"], row["id"]), []).append(row["timestep"])
    assert set(map(tuple, times.values())) == {(434.0, 596.0, 757.0, 919.0)}


def test_the_same_weights_have_the_same_losses_at_any_step(tmp_path):
    watch, _ = validated(tmp_path, learning_rate=1e-30)
    first, *others = watch.evaluations
    assert len(others) > 2
    for other in others:
        assert (other.train, other.validation, other.reg) == (first.train, first.validation, first.reg)


@pytest.mark.parametrize("stop", [1, 2, 4, 5, 9])
def test_whole_after_a_kill(tmp_path, stop):
    whole, _ = validated(tmp_path / "whole", save_every_steps=3)
    validated(tmp_path / "torn", stop, save_every_steps=3)
    again, course = validated(tmp_path / "torn", save_every_steps=3)
    assert course.progress.step < stop
    assert (tmp_path / "whole/validation.parquet").read_bytes() == (tmp_path / "torn/validation.parquet").read_bytes()
    assert again.evaluations == whole.evaluations


def test_measured_is_what_would_be_published(tmp_path):
    """With an average of the weights it is the average that is measured."""
    watch, course = validated(tmp_path, ema_decay=0.9)
    watch.job.denoiser.data.copy_(course.train_state.ema["weight"])
    plain = {(row.subset, row.id, row.timestep): 1.0 for row in watch.readings}
    assert relative_losses(watch.readings, plain).validation == {
        one.id: pytest.approx(float(measure_losses(watch.job, one).mean())) for one in HELD
    }


def test_an_error_is_a_share_of_the_base_models_at_every_time():
    """A loss that halves counts alike where there is much of it and where there is little."""
    first = {("train", "a", 400.0): 0.2, ("train", "a", 900.0): 0.002, ("validation", "b", 400.0): 0.3}
    rows = [
        LossReading(7, "train", "a", 400.0, 0.1),
        LossReading(7, "train", "a", 900.0, 0.003),
        LossReading(7, "validation", "b", 400.0, 0.06),
    ]
    found = relative_losses(rows, first)
    assert (found.step, found.reg) == (7, {})
    assert found.train == {"a": pytest.approx((0.5 + 1.5) / 2)} and found.validation == {"b": pytest.approx(0.2)}


def test_the_base_models_own_errors_are_ones_after_a_stop_too(tmp_path):
    for stop in (3, None):
        watch, _ = validated(tmp_path, stop, save_every_steps=2)
        assert set(watch.evaluations[0].validation.values()) == {1.0}
    assert watch.evaluations[0].step == 0 and watch.evaluations[-1].validation[HELD[0].id] != 1.0


def test_no_more_images_than_asked(tmp_path):
    many = [sample(k) for k in range(100, 140)]
    chosen = ValidationSet.of(many, HELD, ValidationOptions(validation_images=3), 42)
    assert [len(chosen.subsets[name]) for name in ("train", "validation", "reg")] == [3, 3, 0]
    assert chosen == ValidationSet.of(many[::-1], HELD[::-1], ValidationOptions(validation_images=3), 42)
    assert chosen != ValidationSet.of(many, HELD, ValidationOptions(validation_images=3), 43)


def test_without_validation_images_nothing_is_measured(tmp_path):
    made = job(TRAIN)
    course = resume_or_start(made, RunPaths(tmp_path, "key"), DistributedContext())
    watch = Validator(made, course.train_state, ValidationSet.of(TRAIN, [], made.config.validation, 42), tmp_path)
    watch.on_train_begin(0)
    watch.finish(tmp_path)
    assert (watch.evaluations, watch.verdicts(), watch.best_step) == ([], [], None)
    assert not (tmp_path / "validation.parquet").exists()


def scripted(watch, losses):
    """A validator that finds these validation losses, one after another, instead of measuring."""
    real = list(losses)

    def evaluate(step):
        made = dataclasses.replace(measured(step), validation={s.id: real[len(watch.evaluations)] for s in HELD})
        watch.evaluations.append(made)

    def measured(step):
        from training.evaluation.verdict import Evaluation

        return Evaluation(step, {TRAIN[0].id: 1.0}, {}, {})

    watch.evaluate = evaluate


def scripted_run(folder, losses, **options):
    made = job(TRAIN, **{"steps": 12, "batch_size": 2, "validate_every_epochs": 0, "validate_every_steps": 1} | options)
    course = resume_or_start(made, RunPaths(folder, "key"), DistributedContext())
    watch = Validator(made, course.train_state, ValidationSet.of(TRAIN, HELD, made.config.validation, 42), folder)
    scripted(watch, losses)
    watch.on_train_begin(0)
    last = run_to_end(
        made, course, lambda done, total: None, (watch.on_step_end,), RetentionPolicy(lambda: watch.best_step)
    )
    return watch, course, last


def test_early_stop(tmp_path):
    watch, _, last = scripted_run(tmp_path, [9, 8, 7, 7.5, 6, 6.1, 6.2, 6.3, 1, 1, 1, 1, 1], patience=3)
    assert (last.number, watch.best_step) == (7, 4)
    _, _, last = scripted_run(tmp_path / "b", [9, 8, 7, 7.5, 6, 6.1, 6.2, 6.3, 1, 1, 1, 1, 1], patience=4)
    assert last.number == 12
    assert scripted_run(tmp_path / "c", range(13, 0, -1), patience=1)[2].number == 12
    assert scripted_run(tmp_path / "d", range(13))[2].number == 12


def test_a_run_whose_patience_has_ended_does_not_go_on(tmp_path):
    options = {"learning_rate": 1e-30, "patience": 2, "save_every_steps": 1, "save_total_limit": 9}
    watch, course = validated(tmp_path, **options)
    assert (watch.should_stop, [one.step for one in watch.evaluations]) == (True, [0, 2, 4])
    again, course = validated(tmp_path, **options)
    assert (again.should_stop, course.progress.step, again.evaluations) == (True, 4, watch.evaluations)
    assert [one.step for one in validated(tmp_path, **options | {"patience": 3})[0].evaluations] == [0, 2, 4, 6]


def test_the_best_checkpoint_is_kept(tmp_path):
    losses = [9, 8, 7, 3, 6, 6, 6, 6, 6, 6, 6, 6, 6]
    watch, course, _ = scripted_run(tmp_path, losses, save_every_steps=4, save_total_limit=1)
    assert (watch.best_step, sorted(course.manager.steps())) == (3, [3, 12])
    taken = course.manager.load(3)
    assert taken.step == 3
    assert torch.equal(course.train_state.weights["weight"], taken.tensors["weights.weight"])


def test_a_base_that_is_best_has_no_checkpoint(tmp_path):
    watch, course, _ = scripted_run(tmp_path, range(13), save_every_steps=4, save_total_limit=1)
    assert (watch.best_step, course.manager.steps()) == (None, [12])


def test_what_run_json_tells(tmp_path):
    watch, _, _ = scripted_run(tmp_path, [9.0, 8.0, 3.0, *[6.0] * 10])
    found = list(summarize_evaluations(watch.evaluations, watch.verdicts()))
    assert found[0] == {"step": 0, "train": 1.0, "validation": 9.0, "reg": None}
    assert [(one["step"], one["verdict"], one["best"]) for one in found[1:4]] == [
        (1, "underfit", False),
        (2, "good", True),
        (3, "overfit", False),
    ]


def test_a_loss_that_is_not_finite_is_no_best(tmp_path):
    made = job(TRAIN, validate_every_steps=1)
    made = dataclasses.replace(
        made, encode_prompts=lambda captions: {"text": torch.full((len(captions),), float("nan"))}
    )
    course = resume_or_start(made, RunPaths(tmp_path, "key"), DistributedContext())
    watch = Validator(made, course.train_state, ValidationSet.of(TRAIN, HELD, made.config.validation, 42), tmp_path)
    with pytest.raises(PrepError, match=r"The loss of the record [0-9a-f]+ is not finite at step 0"):
        watch.on_train_begin(0)


def test_patience_without_validations_is_refused():
    with pytest.raises(PrepError, match="patience counts validations, but the only one is at the end"):
        train_options(patience=2, validate_every_epochs=0)
