"""Options of speed, and the ways in which a denoiser can compute the same thing."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from training.options.performance import PerformanceOptions

# What a denoiser is mostly made of: compiled one by one, a tenth of the time to compile it all, and as fast.
_REGIONS = ("BasicTransformerBlock", "JointTransformerBlock", "ResnetBlock2D")
_SHAPES = 24  # of one region, per size of images: Stable Diffusion 1.x has 5, of whole and smaller batches,
# and others where nothing learns, in validation and samples
_MANY = 8  # sizes from which on a region is compiled for any shape
_COMPILES = 300.0  # seconds that a run must be longer than what compiling it takes is worth


@dataclass(frozen=True, slots=True)
class ExecutionMode:
    """A way to compute a step."""

    title: str
    last: bool = False  # channels last: convolutions read memory as tensor cores do
    compiled: bool = False
    graphs: bool = False


EAGER = ExecutionMode("plain")
MODES = (
    EAGER,
    ExecutionMode("with CUDA graphs", graphs=True),
    ExecutionMode("with channels last", last=True),
    ExecutionMode("with channels last and CUDA graphs", last=True, graphs=True),
    ExecutionMode("compiled", last=True, compiled=True),
    ExecutionMode("compiled, with CUDA graphs", last=True, compiled=True, graphs=True),
)


def possible(speed: PerformanceOptions, device: str, live_text: bool) -> list[ExecutionMode]:
    """The ways that the options leave to choose from, plain ones first.

    Text encoders that learn read words on the processor, which no graph can hold.
    """
    if device != "cuda":
        return [EAGER]  # compiling even the mini base took more than four minutes on two cores
    wanted = {"on": (True,), "off": (False,), "auto": (False, True)}
    graphs = (False,) if live_text else wanted[speed.cuda_graphs]
    return [way for way in MODES if way.graphs in graphs and way.compiled in wanted[speed.compile]]


def autotune(
    ways: Iterable[ExecutionMode], seconds: Callable[[ExecutionMode], float], steps: int
) -> tuple[ExecutionMode, dict[ExecutionMode, float]]:
    """The way whose step takes the fewest seconds, and what each took that was tried.

    Where there is a choice, compiling is tried only if a run of so many steps would be long enough without.
    """
    found: dict[ExecutionMode, float] = {}
    for way in ways:
        best = min(found.values(), default=math.inf)
        if not way.compiled or best * steps > _COMPILES:
            found[way] = seconds(way)
    return min(found, key=found.__getitem__), found


def apply_mode(denoiser: Any, way: ExecutionMode, sizes: int, backend: str = "inductor") -> None:
    """Make a denoiser compute in a way, in place; `sizes` are those of the images that it will see."""
    import torch

    form = torch.channels_last if way.last else torch.contiguous_format
    for weight in denoiser.parameters():
        if weight.dim() == 4 and not weight.requires_grad:  # those that learn are also read elsewhere
            weight.data = weight.data.contiguous(memory_format=form)
    if not way.compiled:
        for region in compiled_blocks(denoiser):
            region._compiled_call_impl = None
        return
    import torch._dynamo

    # By default the ninth shape of a block would run uncompiled, in silence.
    torch._dynamo.config.recompile_limit = _limit(sizes)
    for region in compiled_blocks(denoiser):
        region.compile(dynamic=None if sizes > _MANY else False, backend=backend)


def compiled_blocks(denoiser: Any) -> list[Any]:
    """The blocks that are compiled, one by one."""
    return [module for module in denoiser.modules() if type(module).__name__ in _REGIONS]


def checkpoint_blocks(denoiser: Any, sizes: int, chance: bool = False) -> None:
    """Let a denoiser compute its blocks again on the way back instead of keeping what they computed, in place.

    `chance`: something in a block is random, and must come out again as it did.
    """
    import torch._dynamo
    from torch.utils.checkpoint import checkpoint

    # The way back runs in a thread of torch's, which does not know what was configured in this one
    # (https://github.com/pytorch/pytorch/issues/186537).
    def contexts() -> tuple[Any, Any]:
        return contextlib.nullcontext(), torch._dynamo.config.patch(recompile_limit=_limit(sizes))

    again = functools.partial(
        checkpoint, use_reentrant=False, preserve_rng_state=chance, determinism_check="none", context_fn=contexts
    )
    denoiser.enable_gradient_checkpointing(lambda module, *given: again(module.__call__, *given))


@contextlib.contextmanager
def tuned(device: str) -> Iterator[None]:
    """While it lasts, a GPU tries out how to compute each shape of convolution, and remembers.

    Only for steps: tried on the VAE, which has far larger ones, it would take twice the memory.
    """
    import torch

    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def prepare_attention(denoiser: Any, speed: PerformanceOptions) -> None:
    """Choose how a denoiser on a GPU computes attention."""
    import torch

    # Its gradients were not finite on H100 and H200 (https://github.com/pytorch/pytorch/issues/196678).
    torch.backends.cuda.enable_cudnn_sdp(False)
    if speed.attention == "xformers":
        denoiser.enable_xformers_memory_efficient_attention()


def _limit(sizes: int) -> int:
    return _SHAPES * max(sizes, 1)
