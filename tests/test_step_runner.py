"""Gradients of a step: with little memory, with CUDA graphs, and in the fastest mode."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from functools import partial

import pytest
import torch

from pipeline.errors import PrepError
from tests.toy_job import job
from tests.training_set import sample
from training.batch import SampleRef
from training.performance.cuda_graphs import WARMUP, StepGraphs
from training.performance.execution_modes import ExecutionMode
from training.performance.step_runner import StepRunner
from training.trainer import forward_backward, make_batch

SAMPLES = [sample(1), sample(2, reg=True, subject="", caption="man"), sample(3), sample(4)]


class Narrow:
    """The toy's number as a denoiser on a device with room for so many images; twice as many with checkpointing."""

    def __init__(self, weight, room):
        self.weight, self.room, self.checkpointed, self.calls = weight, room, False, []

    def enable_gradient_checkpointing(self, function):
        self.checkpointed = True

    def disable_gradient_checkpointing(self):
        self.checkpointed = False

    def __mul__(self, noisy):
        self.calls.append(len(noisy))
        if len(noisy) > self.room * (1 + self.checkpointed):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.weight * noisy


def narrow(room, **options):
    made = job(SAMPLES, batch_size=4, prior_loss_weight=0.25, **options)
    return dataclasses.replace(made, denoiser=Narrow(made.denoiser, room))


def batch(made, count=4):
    return make_batch(made, [SampleRef(one, 0) for one in SAMPLES[:count]])


def taught(made, count=4):
    """Errors, weights and gradient of one step, and the runner."""
    runner = StepRunner(made, 1)
    ((error, weight),) = runner.run(forward_backward, [batch(made, count)], count, 7)
    (learned,) = runner.weights
    return error, weight, learned.grad.clone(), runner


def test_a_step_without_memory_is_done_again_in_less(caplog):
    error, weight, gradient, plain = taught(narrow(room=4))
    assert (plain.parts, plain.checkpointed) == (1, False)
    for room, parts, said in ((2, 1, 1), (1, 2, 2)):
        caplog.clear()
        made = narrow(room=room)
        again = taught(made)
        assert torch.equal(again[0], error)
        assert torch.equal(again[1], weight)
        assert torch.allclose(again[2], gradient, rtol=1e-5)
        assert (again[3].parts, again[3].checkpointed, made.denoiser.checkpointed) == (parts, True, True)
        assert len(caplog.messages) == said
    assert caplog.messages == [
        "The GPU's memory is too small: gradient checkpointing is switched on.",
        "The GPU's memory is too small: each batch is split into 2 parts, whose gradients are added up.",
    ]


def test_models_that_steps_can_do_without_go_first(caplog):
    made, left = narrow(room=2), []

    def offload():
        left.append(True)
        made.denoiser.room = 4
        return len(left) == 1

    *_, runner = taught(dataclasses.replace(made, offload=offload))
    assert (runner.parts, runner.checkpointed, left) == (1, False, [True])
    assert caplog.messages == ["The GPU's memory is too small: the text encoders move to the CPU."]


def test_what_helped_stays_for_the_next_step():
    made = narrow(room=1)
    *_, runner = taught(made)
    made.denoiser.calls.clear()
    runner.run(forward_backward, [batch(made)], 4, 8)
    assert made.denoiser.calls == [2, 2]


def test_checkpointing_is_left_alone_when_it_is_off():
    made = narrow(room=1, gradient_checkpointing="off")
    *_, runner = taught(made)
    assert (runner.parts, runner.checkpointed, made.denoiser.checkpointed) == (4, False, False)


def test_too_small_for_one_image():
    with pytest.raises(PrepError) as found:
        taught(narrow(room=0))
    assert found.value.wrong == (
        "The GPU's memory is too small for a batch of one image, even with gradient checkpointing."
    )
    with pytest.raises(PrepError, match="a batch of one image, without gradient checkpointing"):
        taught(narrow(room=0, gradient_checkpointing="off"))


def test_gradients_of_a_failed_try_do_not_count():
    """The second batch of a step fails: the first one's gradient must not be there twice."""
    made, roomy = narrow(room=2), narrow(room=4)
    grads = []
    for one in (made, roomy):
        runner = StepRunner(one, 1)
        runner.run(forward_backward, [batch(one, 2), batch(one, 4)], 6, 7)
        grads.append(runner.weights[0].grad.clone())
    assert made.denoiser.calls[:2] == [2, 4]
    assert torch.allclose(*grads, rtol=1e-5)


def test_only_memory_errors_are_endured():
    made = narrow(room=4)
    made.denoiser.room = None
    with pytest.raises(TypeError):
        taught(made)


def test_checkpointing_that_is_asked_for_is_on_from_the_start_and_off_afterwards():
    made = narrow(room=4, gradient_checkpointing="on")
    with closing(StepRunner(made, 1)):
        assert made.denoiser.checkpointed
    assert not made.denoiser.checkpointed


def test_a_graph_that_needs_too_much_is_given_up_first(monkeypatch, caplog):
    made = narrow(room=4)
    runner = StepRunner(made, 1)

    def short(graphs, work, given, images):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(StepGraphs, "run", short)

    runner.tuned, runner.mode = True, ExecutionMode("with CUDA graphs", cuda_graphs=True)
    runner.graphs = StepGraphs(runner.weights, capture=None, warmup=9)
    runner.run(forward_backward, [batch(made)], 4, 7)
    assert runner.graphs is None
    assert caplog.messages == ["The GPU's memory is too small for CUDA graphs: they are switched off."]
    assert not runner.checkpointed


def test_steps_by_graphs_each_begin_without_gradients():
    """The gradients lie at fixed places, which the learner takes from the weights after each step."""
    made, plain = narrow(room=4), narrow(room=4)
    runner, other = StepRunner(made, 1), StepRunner(plain, 1)
    runner.tuned, runner.graphs = True, StepGraphs(runner.weights, capture=None, warmup=9)
    for turn in range(2):
        given = make_batch(made, [SampleRef(one, turn) for one in SAMPLES])
        runner.run(forward_backward, [given], 4, 7)
        other.run(forward_backward, [given], 4, 7)
        assert torch.equal(runner.weights[0].grad, other.weights[0].grad)
        assert runner.weights[0].grad is runner.graphs.gradients[0]
        runner.weights[0].grad = None


def test_the_fastest_way_is_taken(monkeypatch, caplog):
    made = narrow(room=4)
    runner = StepRunner(made, 1000)
    slow, fast = ExecutionMode("slow"), ExecutionMode("fast", cuda_graphs=True)
    runner.modes = [slow, fast]
    monkeypatch.setattr(runner, "measure", lambda work, mode, batch, images: {slow: 0.0921, fast: 0.0613}[mode])
    runner.autotune(partial(forward_backward, made), batch(made), torch.tensor(4.0))
    assert runner.mode is fast
    assert runner.graphs is not None
    assert caplog.messages == ["A batch takes 61.3 ms fast (92.1 ms slow)."]


def test_a_way_that_fails_is_not_taken(caplog):
    made = narrow(room=4)
    runner = StepRunner(made, 1000)
    runner.modes = [ExecutionMode("slow"), ExecutionMode("broken")]

    def broken(job, given, images):
        if runner.mode.title == "broken":
            raise RuntimeError("no compiler\nat all")
        return forward_backward(job, given, images)

    runner.run(broken, [batch(made)], 4, 7)
    assert runner.mode.title == "slow"
    assert caplog.messages[0] == "Training broken does not work here: no compiler."


def test_measuring_teaches_nothing(monkeypatch):
    *_, gradient, _ = taught(narrow(room=4))
    made = narrow(room=4)
    runner = StepRunner(made, 1000)
    runner.modes = [ExecutionMode("one"), ExecutionMode("two")]
    runner.run(forward_backward, [batch(made)], 4, 7)
    assert len(made.denoiser.calls) == 2 * (WARMUP + 1 + 5) + 1
    assert torch.equal(runner.weights[0].grad, gradient)


def test_processes_without_images_wait():
    made = narrow(room=4)
    runner = StepRunner(made, 1)
    found = runner.run(forward_backward, [None, batch(made, 1)], 5, 7)
    assert [len(error) for error, _ in found] == [0, 1]
