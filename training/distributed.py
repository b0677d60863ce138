"""Several processes that train together, one per GPU: who takes which images, and what they add up."""

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
_AT_ONCE = 1 << 26  # bytes of gradients that travel together
_PATIENCE = timedelta(days=1)  # one process fills the caches while the others wait


@dataclass(frozen=True, slots=True)
class DistributedContext:
    """This process among its siblings; alone, everything is its own and nothing travels."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main_process(self) -> bool:
        """Whether this is the process that writes and tells."""
        return self.rank == 0

    def share(self, all_of_them: Sequence[T]) -> list[T]:
        """What of a batch this process takes: every count-th, so that the whole is the same for any count."""
        return list(all_of_them[self.rank :: self.world_size])

    def spread(self, own: torch.Tensor, total: int) -> torch.Tensor:
        """The values of this process's share at their places among all `total`, zeros elsewhere."""
        if self.world_size == 1:
            return own
        whole = own.new_zeros(total)
        whole[self.rank :: self.world_size] = own
        return whole

    def all_reduce_sum(self, tensors: list[torch.Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in place."""
        import torch
        import torch.distributed

        if self.world_size == 1:
            return
        waiting: list[torch.Tensor] = []
        for at, tensor in enumerate(tensors, 1):
            waiting.append(tensor)
            if at == len(tensors) or sum(t.numel() * t.element_size() for t in waiting) >= _AT_ONCE:
                flat = torch.cat([part.reshape(-1) for part in waiting])
                torch.distributed.all_reduce(flat)
                sums = torch.split(flat, [part.numel() for part in waiting])
                torch._foreach_copy_(waiting, [s.view_as(part) for s, part in zip(sums, waiting, strict=True)])
                waiting = []

    def all_reduce_max(self, number: int) -> int:
        """The largest of a number of each process."""
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
        """What one process does first, and then all the others."""
        if not self.is_main_process:
            self.barrier()
        yield
        if self.is_main_process:
            self.barrier()

    def barrier(self) -> None:
        """Wait until every process has come this far."""
        import torch.distributed

        if self.world_size > 1:
            torch.distributed.barrier()


def init_distributed(device: str) -> DistributedContext:
    """This process among those that `accelerate launch` or torchrun started, alone when none did.

    `device` is cpu or cuda; of several GPUs each process takes its own, which torch means by cuda from then on.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return DistributedContext()
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu", timeout=_PATIENCE)
    if state.num_processes != count:
        raise PrepError(
            f"{count} processes were started, but accelerate does not know how they talk on this device ({device}).",
            "Start one: prep train",
        )
    return DistributedContext(state.process_index, state.num_processes)
