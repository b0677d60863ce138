"""Batches that shrink when memory runs out."""

from __future__ import annotations

import pytest
import torch

from pipeline.adaptive_batches import AdaptiveBatcher
from pipeline.errors import PrepError


def doubling(room, sizes, error=torch.OutOfMemoryError):
    """A model that doubles numbers, on a device with memory for `room` of them."""

    def infer(items):
        sizes.append(len(items))
        if len(items) > room:
            raise error("CUDA out of memory.")
        return [2 * item for item in items]

    return infer


def test_batches_are_halved_until_they_fit_and_stay_so(caplog):
    batcher, sizes = AdaptiveBatcher(16, "Encoding images"), []
    assert batcher.run(doubling(2, sizes), range(7)) == [0, 2, 4, 6, 8, 10, 12]
    assert sizes == [7, 4, 2, 2, 2, 1]
    assert caplog.messages == [
        "Encoding images ran out of memory with a batch of 7; the batch size is now 4.",
        "Encoding images ran out of memory with a batch of 4; the batch size is now 2.",
    ]
    sizes.clear()
    assert batcher.run(doubling(2, sizes), range(3)) == [0, 2, 4]
    assert sizes == [2, 1]


def test_idle_models_leave_the_gpu_first():
    room, sizes, calls = [1], [], []

    def offload():
        calls.append(True)
        room[0] = 4
        return len(calls) == 1

    batcher = AdaptiveBatcher(4, "Encoding images", offload)
    assert batcher.run(lambda items: doubling(room[0], sizes)(items), range(4)) == [0, 2, 4, 6]
    assert sizes == [4, 4] and batcher.size == 4 and calls == [True]


def test_one_item_alone_is_too_much():
    with pytest.raises(PrepError, match="Encoding images ran out of memory with a single image"):
        AdaptiveBatcher(4, "Encoding images").run(doubling(0, []), range(3))


def test_only_memory_errors_are_caught():
    class Fault(Exception):
        pass

    def broken(items):
        raise RuntimeError("shapes do not match")

    batcher = AdaptiveBatcher(4, "Encoding images")
    with pytest.raises(RuntimeError, match="shapes"):
        batcher.run(broken, range(3))
    with pytest.raises(Fault):
        batcher.run(doubling(2, [], Fault), range(3))
    assert AdaptiveBatcher(4, "Encoding images", faults=(Fault,)).run(doubling(2, [], Fault), range(3)) == [0, 2, 4]
