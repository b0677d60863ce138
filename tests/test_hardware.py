"""The device of a run."""

from __future__ import annotations

import pytest
import torch

from pipeline.errors import PrepError
from training.performance.hardware import find_device


def test_without_a_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert find_device("auto") == find_device("cpu") == torch.device("cpu")
    with pytest.raises(PrepError, match="torch finds no GPU") as caught:
        find_device("cuda")
    assert caught.value.hint == "Train on the CPU: --device cpu"


def test_auto_takes_the_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert find_device("auto") == find_device("cuda") == torch.device("cuda")
    assert find_device("cpu") == torch.device("cpu")
