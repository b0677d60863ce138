"""Seconds of the parts of a run, by a clock of the test's own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from training.evaluation.step_timer import StepTimer


class Clock:
    """A clock that moves when it is told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def step(number):
    return SimpleNamespace(number=number, grad_norm=torch.zeros(()))


def run(until, steps):
    """Steps of 2 s, of which every second is validated for 5 s and saved for 0.5 s."""
    clock = Clock()
    meter = StepTimer(stop_at=until, synchronize=True, clock=clock)

    def validate(at):
        clock.now += 5 if at.number % 2 == 0 else 0
        return False

    watchers, reported = meter.wrap_callbacks({"validation": validate}), []
    report = meter.wrap_progress(lambda done, total: reported.append(done))
    with meter.span("prepare"):
        clock.now += 30
    for number in range(1, steps + 1):
        clock.now += 100 if number == 1 else 2
        ended = [watch(step(number)) for watch in watchers]
        clock.now += 0.5 if number % 2 == 0 else 0
        report(number, steps)
        if any(ended):
            break
    return meter, reported


def test_parts_are_told_apart():
    meter, reported = run(0, 4)
    assert reported == [1, 2, 3, 4]
    assert meter.seconds == {
        "prepare": [30],
        "step": [2, 2, 2],  # the first, which compiles and allocates, is left out
        "validation": [0, 5, 0, 5],
        "save": [0, 0.5, 0, 0.5],
    }


@pytest.mark.parametrize("until", [1, 3])
def test_ends_the_run(until):
    assert run(until, 9)[1][-1] == until


def test_what_fails_is_not_measured():
    meter = StepTimer()
    with pytest.raises(ZeroDivisionError), meter.span("prepare"):
        raise ZeroDivisionError
    assert meter.seconds == {}
