"""Prefetching: while the device is busy with a step, the next step's tensors are made and copied to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
R = TypeVar("R")


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on a device; the copy to a GPU goes through pinned memory and does not wait."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def prefetch(items: Iterable[T], work: Callable[[T], R], device: torch.device) -> Iterator[tuple[T, R]]:
    """Each item with the result of `work`; for a GPU one item ahead, in another thread and on its own CUDA stream.

    On the CPU a thread would only take time from the step that runs at the same time.
    """
    if device.type != "cuda":
        yield from ((item, work(item)) for item in items)
        return
    wait, on_stream = copy_stream(device)
    results = prefetch_one(items, lambda item: on_stream(lambda: work(item)))
    yield from ((item, wait(result)) for item, result in results)


def prefetch_one(items: Iterable[T], work: Callable[[T], R]) -> Iterator[tuple[T, R]]:
    """Each item with the result of `work`, which another thread computes one item ahead."""
    previous: tuple[T, Future[R]] | None = None
    with ThreadPoolExecutor(1, "prep-prefetch") as thread:
        for item in items:
            current = (item, thread.submit(work, item))
            if previous:
                yield previous[0], previous[1].result()
            previous = current
        if previous:
            yield previous[0], previous[1].result()


Pending = tuple[R, "torch.cuda.Event"]  # a result, and the end of the copies that fill it


def copy_stream(device: torch.device) -> tuple[Callable[[Pending[R]], R], Callable[[Callable[[], R]], Pending[R]]]:
    """Two functions: the second runs work on a CUDA stream of its own, the first waits for what that copied."""
    import torch

    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    main_stream = torch.cuda.current_stream(device)

    def on_stream(work: Callable[[], R]) -> Pending[R]:
        # The allocator reuses the memory of earlier batches, so the steps that read them must have ended;
        # the batch of the current step is still referenced.
        stream.wait_stream(main_stream)
        with torch.cuda.stream(stream):
            result = work()
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(stream)
        return result, event

    def wait(pending: Pending[R]) -> R:
        main_stream.wait_event(pending[1])  # the device waits, not this thread
        return pending[0]

    return wait, on_stream
