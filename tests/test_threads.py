"""How many threads share a training step on the CPU."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from tests.training_options import train_stage
from tests.training_set import manifest, placed, workspace
from training.performance import threads
from training.performance.threads import suitable_threads


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def job(width: int = 10, device: str = "cpu") -> SimpleNamespace:
    with torch.device("meta"):
        return SimpleNamespace(denoiser=torch.nn.Linear(width, width, bias=False), device=torch.device(device))


def within(given: SimpleNamespace) -> int:
    with suitable_threads(given):
        return torch.get_num_threads()


def test_a_small_denoiser_has_one_thread_and_then_as_many_as_before():
    assert within(job()) == 1
    assert torch.get_num_threads() == 2
    with pytest.raises(KeyboardInterrupt), suitable_threads(job()):
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 2


def test_a_large_denoiser_has_all(monkeypatch):
    assert within(job(8_000)) == 2  # 64 million parameters
    monkeypatch.setattr(threads, "SMALL_DENOISER", 100)
    assert (within(job(10)), within(job(11))) == (1, 2)


def test_what_the_user_says_goes(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert within(job()) == 2


def test_a_gpu_does_not_care():
    assert within(job(device="cuda")) == 2


def test_prep_train_takes_a_small_step_in_one_thread(tmp_path, monkeypatch):
    seen = []
    forward = torch.nn.Conv2d.forward
    monkeypatch.setattr(
        torch.nn.Conv2d, "forward", lambda self, x: seen.append(torch.get_num_threads()) or forward(self, x)
    )
    work = workspace(tmp_path)
    stage = train_stage(steps=1, base="mini", validation_share=0, save_every_epochs=0)
    list(stage.run(manifest(work, [placed(work, number) for number in range(2)]), work, lambda *_: None))
    assert seen and seen[-1] == 1
