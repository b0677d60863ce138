"""How the small models learn: the course's rates, and that a run that was broken off goes on as if it had not been."""

from __future__ import annotations

import pytest
import torch

from sample_data.mini import training_loop
from sample_data.mini.training_loop import Course, load_average, practise

COURSE = Course(steps=12, rate=0.05, warm=3, cool=0.5, keep=0.9)


def student():
    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(64, 1)
    )


def lesson(model):
    def loss(step, random):
        shown = torch.randn(8, 3, 6, 6, generator=random)
        return (model(shown)[:, 0] - shown.mean((1, 2, 3)) * 5).square().mean()

    return loss


def taught(course, file=None):
    model = student().to(memory_format=torch.channels_last)
    practise(model, lesson(model), course, file)
    return model.state_dict()


def test_the_rate_rises_stays_and_falls():
    course = Course(steps=100, rate=2.0, warm=10, cool=0.2)
    assert course.rate_at(0) == pytest.approx(0.2)
    assert course.rate_at(9) == course.rate_at(50) == course.rate_at(80) == 2.0
    assert course.rate_at(90) == pytest.approx(1.0)
    assert course.rate_at(99) == pytest.approx(0.1)


def test_the_average_forgets_its_beginning():
    assert Course(1, 1.0).keep_at(0) == pytest.approx(0.1)
    assert Course(1, 1.0, keep=0.9).keep_at(10_000) == 0.9


def test_a_broken_run_goes_on_exactly(tmp_path, monkeypatch):
    whole = taught(COURSE)
    file = tmp_path / "run.safetensors"
    monkeypatch.setattr(training_loop, "_SAVE", -1)  # after every step

    class Enough(Exception):
        pass

    model = student().to(memory_format=torch.channels_last)
    inner = lesson(model)

    def until_seven(step, random):
        if step == 7:
            raise Enough
        return inner(step, random)

    with pytest.raises(Enough):
        practise(model, until_seven, COURSE, file)
    went_on = taught(COURSE, file)
    assert whole.keys() == went_on.keys()
    for name, value in whole.items():
        assert torch.equal(value, went_on[name]), name
    again = student()
    assert load_average(again, file) == 12
    assert all(torch.equal(value, whole[name]) for name, value in again.state_dict().items())


def test_what_is_left_is_the_average():
    course = Course(steps=1, rate=0.1, warm=1, cool=0.0)
    before, after = student().state_dict(), taught(course)
    model = student()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, betas=(0.9, 0.99), weight_decay=0.01)
    lesson(model)(0, torch.Generator().manual_seed(0)).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    for name in ("3.weight", "3.bias"):  # a bias before a normalisation moves by chance alone
        value = model.state_dict()[name]
        torch.testing.assert_close(after[name], before[name] * 0.1 + value * 0.9, atol=1e-5, rtol=1e-4)
