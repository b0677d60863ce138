"""Work done ahead: while the device is busy with a step, the tensors of the next one are made and sent to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
R = TypeVar("R")


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on a device. To a GPU it travels by pinned memory, without anybody waiting for it."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def prefetch(items: Iterable[T], work: Callable[[T], R], device: torch.device) -> Iterator[tuple[T, R]]:
    """Each item with what the work made of it; where the device is a GPU, always one item ahead.

    The work then runs in a thread and on a stream of its own. On the processor it would only take
    the time of the step that it runs beside.
    """
    if device.type != "cuda":
        yield from ((item, work(item)) for item in items)
        return
    ready, lane = copy_stream(device)
    yield from ((item, ready(made)) for item, made in prefetch_one(items, lambda item: lane(lambda: work(item))))


def prefetch_one(items: Iterable[T], work: Callable[[T], R]) -> Iterator[tuple[T, R]]:
    """Each item with what the work made of it in another thread, which is always at the next one already."""
    waiting: tuple[T, Future[R]] | None = None
    with ThreadPoolExecutor(1, "prep-ahead") as thread:
        for item in items:
            following = (item, thread.submit(work, item))
            if waiting:
                yield waiting[0], waiting[1].result()
            waiting = following
        if waiting:
            yield waiting[0], waiting[1].result()


Made = tuple[R, "torch.cuda.Event"]


def copy_stream(device: torch.device) -> tuple[Callable[[Made[R]], R], Callable[[Callable[[], R]], Made[R]]]:
    """Two functions: the second works on a stream of its own; the first makes the device wait for what that sent."""
    import torch

    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    steps = torch.cuda.current_stream(device)

    def lane(work: Callable[[], R]) -> Made[R]:
        # The memory of batches that were shown is used again for this one, so the step that read
        # them must have ended. The one now under way reads a batch that is still held.
        stream.wait_stream(steps)
        with torch.cuda.stream(stream):
            made = work()
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(stream)
        return made, event

    def ready(made: Made[R]) -> R:
        steps.wait_event(made[1])  # the device waits, not this thread
        return made[0]

    return ready, lane
