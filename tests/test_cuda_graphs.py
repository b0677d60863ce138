"""Graphs of steps, with a recorder of functions in place of CUDA's."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch

from tests.toy_job import job
from tests.training_set import sample
from training.batch import SampleRef
from training.performance.cuda_graphs import MAX_GRAPHS, StepGraphs
from training.trainer import forward_backward, make_batch

SIZES = [64, 128, 192, 256, 320, 384, 448, 512, 576, 640]


class Recorder:
    """What a graph is: it computes from the same memory into the same memory, and nothing while it is recorded."""

    def __init__(self, weights):
        self.weights, self.captures, self.replays = weights, 0, 0

    def capture(self, work):
        self.captures += 1
        kept = [weight.grad.clone() for weight in self.weights]
        found = work()
        for weight, grad in zip(self.weights, kept, strict=True):
            weight.grad.copy_(grad)  # recording did not happen

        def replay():
            self.replays += 1
            for mine, new in zip(found, work(), strict=True):
                mine.copy_(new)

        return replay, found


def setting(widths=(64,), warmup=2, capture=None):
    """A toy job, the work of a batch, its graphs and their recorder."""
    made = job([sample(k, width=width) for k, width in enumerate(widths, 1)])
    weights = [weight for group in made.param_groups for weight in group.weights.values()]
    recorder = Recorder(weights)
    graphs = StepGraphs(weights, capture or recorder.capture, warmup)
    return made, partial(forward_backward, made), graphs, recorder


def shown(made, number, *repeats):
    return make_batch(made, [SampleRef(made.samples[number], repeat) for repeat in repeats])


def eager(work, weights, given, images):
    weights[0].grad = None
    losses, loss_weights = work(given, images)
    return losses, loss_weights, weights[0].grad.clone()


def test_replays_compute_what_the_step_does():
    made, work, graphs, recorder = setting()
    for turn in range(6):
        given, images = shown(made, 0, turn, turn + 10), torch.tensor(2.0 + turn)
        wanted = eager(work, graphs.weights, given, images)
        graphs.zero_gradients()
        error, weight = graphs.run(work, given, images)
        assert torch.equal(error, wanted[0])
        assert torch.equal(weight, wanted[1])
        assert torch.equal(graphs.weights[0].grad, wanted[2])
    assert (recorder.captures, recorder.replays) == (1, 4)


def test_gradients_of_a_step_add_up_and_those_of_the_last_are_gone():
    made, work, graphs, _ = setting(warmup=0)
    one, two = shown(made, 0, 1), shown(made, 0, 2)
    wanted = [eager(work, graphs.weights, given, torch.tensor(2.0))[2] for given in (one, two)]
    for _ in range(2):
        graphs.zero_gradients()
        graphs.run(work, one, torch.tensor(2.0))
        graphs.run(work, two, torch.tensor(2.0))
        assert torch.allclose(graphs.weights[0].grad, sum(wanted))


def test_what_was_found_stays_when_the_graph_runs_again():
    made, work, graphs, _ = setting(warmup=0)
    graphs.zero_gradients()
    first, _ = graphs.run(work, shown(made, 0, 1), torch.tensor(1.0))
    before = first.clone()
    graphs.run(work, shown(made, 0, 2), torch.tensor(1.0))
    assert torch.equal(first, before)


def test_each_shape_has_a_graph_and_few_are_kept():
    made, work, graphs, recorder = setting(widths=SIZES, warmup=0)
    graphs.zero_gradients()
    for number in range(len(SIZES)):
        graphs.run(work, shown(made, number, 1), torch.tensor(1.0))
    assert recorder.captures == len(SIZES)
    assert len(graphs.captured) == MAX_GRAPHS
    graphs.run(work, shown(made, len(SIZES) - 1, 2), torch.tensor(1.0))
    assert recorder.captures == len(SIZES)  # the latest is still there
    graphs.run(work, shown(made, 0, 2), torch.tensor(1.0))
    assert recorder.captures == len(SIZES) + 1  # the first is not


def test_the_one_not_used_for_longest_goes():
    made, work, graphs, recorder = setting(widths=SIZES, warmup=0)
    graphs.zero_gradients()
    for number in (*range(MAX_GRAPHS), 0, MAX_GRAPHS):  # the first is used once more, then one comes too many
        graphs.run(work, shown(made, number, 1), torch.tensor(1.0))
    count = recorder.captures
    graphs.run(work, shown(made, 0, 2), torch.tensor(1.0))
    assert recorder.captures == count
    graphs.run(work, shown(made, 1, 2), torch.tensor(1.0))
    assert recorder.captures == count + 1


@pytest.mark.parametrize("mask", [False, True])
def test_masks_and_conditions_are_part_of_what_is_copied(mask):
    made, work, graphs, recorder = setting(warmup=0)
    if mask:
        made = dataclasses.replace(made, mask=lambda draw: torch.rand(1, 1, 8, 8).round())
    texts = iter([0.1, 0.7, 0.3])
    made = dataclasses.replace(made, encode_prompts=lambda prompts: {"text": torch.tensor([next(texts)])})
    for turn in range(3):
        given = shown(made, 0, turn)
        wanted = eager(work, graphs.weights, given, torch.tensor(1.0))
        graphs.zero_gradients()
        assert torch.equal(graphs.run(work, given, torch.tensor(1.0))[0], wanted[0])
    assert recorder.captures == 1


def test_what_cannot_be_recorded_runs_as_usual(caplog):
    def refuse(work):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    made, work, graphs, _ = setting(warmup=1, capture=refuse)
    for turn in range(4):
        given = shown(made, 0, turn)
        wanted = eager(work, graphs.weights, given, torch.tensor(1.0))
        graphs.zero_gradients()
        assert torch.equal(graphs.run(work, given, torch.tensor(1.0))[0], wanted[0])
        assert torch.equal(graphs.weights[0].grad, wanted[2])
    assert caplog.messages == [
        "CUDA graphs do not work here: CUDA error: operation not permitted when stream is capturing."
    ]
