"""Work done ahead: one item, no more, in another thread."""

from __future__ import annotations

import threading

import pytest
import torch

from training.performance.prefetch import prefetch, prefetch_one, to_device


def test_items_come_in_order_with_what_was_made_of_them():
    assert list(prefetch_one(range(5), lambda k: k * k)) == [(k, k * k) for k in range(5)]
    assert list(prefetch_one([], lambda k: k)) == []


def test_exactly_one_item_is_worked_on_ahead():
    taken, started = [], [threading.Event() for _ in range(4)]

    def items():
        for k in range(4):
            taken.append(k)
            yield k

    stream = prefetch_one(items(), lambda k: started[k].set())
    next(stream)
    assert started[1].wait(10)  # while the first is in use
    assert taken == [0, 1]
    next(stream)
    assert started[2].wait(10)
    assert taken == [0, 1, 2]


def test_work_is_done_in_another_thread():
    names = {name for _, name in prefetch_one(range(3), lambda k: threading.current_thread().name)}
    assert len(names) == 1
    assert names != {threading.current_thread().name}


def test_what_goes_wrong_comes_with_its_item():
    def work(k):
        return 6 // (2 - k)

    stream = prefetch_one(range(4), work)
    assert [next(stream), next(stream)] == [(0, 3), (1, 6)]
    with pytest.raises(ZeroDivisionError):
        next(stream)


def test_on_the_processor_nothing_runs_ahead():
    done = []
    stream = prefetch(range(3), done.append, torch.device("cpu"))
    next(stream)
    assert done == [0]


def test_on_the_processor_nothing_is_copied():
    value = torch.ones(3)
    assert to_device(value, torch.device("cpu")) is value
