"""The training loop of the small models: its learning rates, and that a resumed run equals an uninterrupted one."""

from __future__ import annotations

import pytest
import torch

from sample_data.mini import training_loop
from sample_data.mini.training_loop import TrainingSchedule, load_ema, train_model

COURSE = TrainingSchedule(steps=12, learning_rate=0.05, warmup=3, decay_share=0.5, ema_decay=0.9)


def small_model():
    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(64, 1)
    )


def squared_error(model):
    def loss(step, random):
        shown = torch.randn(8, 3, 6, 6, generator=random)
        return (model(shown)[:, 0] - shown.mean((1, 2, 3)) * 5).square().mean()

    return loss


def trained(schedule, file=None):
    model = small_model().to(memory_format=torch.channels_last)
    train_model(model, squared_error(model), schedule, file)
    return model.state_dict()


def test_the_rate_rises_stays_and_falls():
    schedule = TrainingSchedule(steps=100, learning_rate=2.0, warmup=10, decay_share=0.2)
    assert schedule.learning_rate_at(0) == pytest.approx(0.2)
    assert schedule.learning_rate_at(9) == schedule.learning_rate_at(50) == schedule.learning_rate_at(80) == 2.0
    assert schedule.learning_rate_at(90) == pytest.approx(1.0)
    assert schedule.learning_rate_at(99) == pytest.approx(0.1)


def test_the_average_forgets_its_beginning():
    assert TrainingSchedule(1, 1.0).ema_decay_at(0) == pytest.approx(0.1)
    assert TrainingSchedule(1, 1.0, ema_decay=0.9).ema_decay_at(10_000) == 0.9


def test_a_broken_run_goes_on_exactly(tmp_path, monkeypatch):
    whole = trained(COURSE)
    file = tmp_path / "run.safetensors"
    monkeypatch.setattr(training_loop, "_SAVE_SECONDS", -1)  # after every step

    class Enough(Exception):
        pass

    model = small_model().to(memory_format=torch.channels_last)
    inner = squared_error(model)

    def until_seven(step, random):
        if step == 7:
            raise Enough
        return inner(step, random)

    with pytest.raises(Enough):
        train_model(model, until_seven, COURSE, file)
    went_on = trained(COURSE, file)
    assert whole.keys() == went_on.keys()
    for name, value in whole.items():
        assert torch.equal(value, went_on[name]), name
    again = small_model()
    assert load_ema(again, file) == 12
    assert all(torch.equal(value, whole[name]) for name, value in again.state_dict().items())


def test_what_is_left_is_the_average():
    schedule = TrainingSchedule(steps=1, learning_rate=0.1, warmup=1, decay_share=0.0)
    before, after = small_model().state_dict(), trained(schedule)
    model = small_model()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, betas=(0.9, 0.99), weight_decay=0.01)
    squared_error(model)(0, torch.Generator().manual_seed(0)).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    for name in ("3.weight", "3.bias"):  # a bias before a normalisation moves by chance alone
        value = model.state_dict()[name]
        torch.testing.assert_close(after[name], before[name] * 0.1 + value * 0.9, atol=1e-5, rtol=1e-4)
