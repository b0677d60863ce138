"""Training in several processes, one per GPU: sharing batches and summing gradients."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from pipeline.errors import PrepError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
_BUCKET = 1 << 26  # bytes of tensors that are sent together
_TIMEOUT = timedelta(days=1)  # the main process fills the caches while the others wait


@dataclass(frozen=True, slots=True)
class DistributedContext:
    """The place of this process among all; with one process nothing is shared or sent."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main_process(self) -> bool:
        """Whether this is the process that writes files and logs."""
        return self.rank == 0

    def share(self, batch: Sequence[T]) -> list[T]:
        """This process's items of a batch: every `world_size`-th, so that the batch is the same for any number."""
        return list(batch[self.rank :: self.world_size])

    def spread(self, own: torch.Tensor, total: int) -> torch.Tensor:
        """The values of this process's share at their positions in a batch of `total`, zeros elsewhere."""
        if self.world_size == 1:
            return own
        batch = own.new_zeros(total)
        batch[self.rank :: self.world_size] = own
        return batch

    def all_reduce_sum(self, tensors: list[torch.Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in place."""
        import torch
        import torch.distributed

        if self.world_size == 1:
            return
        bucket: list[torch.Tensor] = []
        for count, tensor in enumerate(tensors, 1):
            bucket.append(tensor)
            if count == len(tensors) or sum(t.numel() * t.element_size() for t in bucket) >= _BUCKET:
                flat = torch.cat([part.reshape(-1) for part in bucket])
                torch.distributed.all_reduce(flat)
                sums = torch.split(flat, [part.numel() for part in bucket])
                torch._foreach_copy_(bucket, [s.view_as(part) for s, part in zip(sums, bucket, strict=True)])
                bucket = []

    def all_reduce_max(self, number: int) -> int:
        """The largest of the processes' numbers."""
        import torch
        import torch.distributed

        if self.world_size == 1:
            return number
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        value = torch.tensor(number, device=device)
        torch.distributed.all_reduce(value, torch.distributed.ReduceOp.MAX)
        return int(value)

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """A block that the main process runs first, and the others after it."""
        if not self.is_main_process:
            self.barrier()
        yield
        if self.is_main_process:
            self.barrier()

    def barrier(self) -> None:
        """Wait until every process has reached this call."""
        import torch.distributed

        if self.world_size > 1:
            torch.distributed.barrier()


def init_distributed(device: str) -> DistributedContext:
    """The place of this process among those that `accelerate launch` or torchrun started; alone without them.

    `device` is cpu or cuda; with several GPUs, cuda is from then on the GPU of this process. PrepError when the
    processes cannot communicate.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return DistributedContext()
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu", timeout=_TIMEOUT)
    if state.num_processes != count:
        raise PrepError(
            f"{count} processes were started, but accelerate has no way to connect them on this device ({device}).",
            "Start a single process: prep train",
        )
    return DistributedContext(state.process_index, state.num_processes)
