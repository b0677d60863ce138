"""The modes in which a denoiser can run, all with the same results: eager, channels last, compiled, CUDA graphs."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.models.family import CompiledBlocks
    from training.options.performance import PerformanceOptions

_MANY_SIZES = 8  # image sizes from which on a block is compiled once, for dynamic shapes
_MIN_COMPILED_RUN = 300.0  # seconds that a run must take without compiling for compiling to be worth its time


@dataclass(frozen=True, slots=True)
class ExecutionMode:
    """How forward and backward passes run."""

    title: str  # completes "A batch takes 12.3 ms ..."
    channels_last: bool = False  # the memory format that tensor cores read convolutions in
    compiled: bool = False
    cuda_graphs: bool = False


EAGER = ExecutionMode("in eager mode")
MODES = (
    EAGER,
    ExecutionMode("with CUDA graphs", cuda_graphs=True),
    ExecutionMode("with channels last", channels_last=True),
    ExecutionMode("with channels last and CUDA graphs", channels_last=True, cuda_graphs=True),
    ExecutionMode("compiled", channels_last=True, compiled=True),
    ExecutionMode("compiled, with CUDA graphs", channels_last=True, compiled=True, cuda_graphs=True),
)


def candidate_modes(options: PerformanceOptions, device: str, trains_text_encoder: bool) -> list[ExecutionMode]:
    """The modes that the options allow, eager ones first.

    Text encoders that are trained tokenize on the CPU in every step, which no CUDA graph can contain.
    """
    if device != "cuda":
        return [EAGER]  # on two CPU cores compiling the mini base model alone takes more than four minutes
    allowed = {"on": (True,), "off": (False,), "auto": (False, True)}
    graphs = (False,) if trains_text_encoder else allowed[options.cuda_graphs]
    return [mode for mode in MODES if mode.cuda_graphs in graphs and mode.compiled in allowed[options.compile]]


def fastest_mode(
    modes: Iterable[ExecutionMode], measure: Callable[[ExecutionMode], float], steps: int
) -> tuple[ExecutionMode, dict[ExecutionMode, float]]:
    """The mode whose step takes the fewest seconds by `measure`, and the seconds of each that was measured.

    Compiled modes are measured only where there is no other, or `steps` steps take long enough without compiling.
    """
    seconds: dict[ExecutionMode, float] = {}
    for mode in modes:
        best = min(seconds.values(), default=math.inf)
        if not mode.compiled or best * steps > _MIN_COMPILED_RUN:
            seconds[mode] = measure(mode)
    return min(seconds, key=seconds.__getitem__), seconds


def apply_mode(
    denoiser: Any, mode: ExecutionMode, compiled: CompiledBlocks, sizes: int, backend: str = "inductor"
) -> None:
    """Switch a denoiser to a mode, in place; `sizes` counts the different image sizes that it will get."""
    import torch

    memory_format = torch.channels_last if mode.channels_last else torch.contiguous_format
    for weight in denoiser.parameters():
        if weight.dim() == 4 and not weight.requires_grad:  # trained weights are also read elsewhere
            weight.data = weight.data.contiguous(memory_format=memory_format)
    if not mode.compiled:
        for block in find_blocks(denoiser, compiled):
            block._compiled_call_impl = None
        return
    import torch._dynamo

    # By default the ninth shape of a block would run uncompiled, without a message.
    torch._dynamo.config.recompile_limit = _recompile_limit(compiled, sizes)
    for block in find_blocks(denoiser, compiled):
        block.compile(dynamic=None if sizes > _MANY_SIZES else False, backend=backend)


def find_blocks(denoiser: Any, compiled: CompiledBlocks) -> list[Any]:
    """The blocks that are compiled one by one: in a tenth of the time of the whole denoiser, and as fast."""
    return [module for module in denoiser.modules() if type(module).__name__ in compiled.classes]


def enable_gradient_checkpointing(denoiser: Any, compiled: CompiledBlocks, sizes: int, dropout: bool = False) -> None:
    """Let a denoiser recompute its blocks in the backward pass instead of keeping their activations, in place.

    With `dropout` the state of the random generator is kept, so that it comes out the same again.
    """
    import torch._dynamo
    from torch.utils.checkpoint import checkpoint

    # The backward pass runs in a thread of torch's, which does not see the configuration of this one
    # (https://github.com/pytorch/pytorch/issues/186537).
    def contexts() -> tuple[Any, Any]:
        limit = _recompile_limit(compiled, sizes)
        return contextlib.nullcontext(), torch._dynamo.config.patch(recompile_limit=limit)

    recompute = functools.partial(
        checkpoint, use_reentrant=False, preserve_rng_state=dropout, determinism_check="none", context_fn=contexts
    )
    denoiser.enable_gradient_checkpointing(lambda module, *inputs: recompute(module.__call__, *inputs))


@contextlib.contextmanager
def cudnn_benchmark(device: str) -> Iterator[None]:
    """Within it, cuDNN measures on a GPU which algorithm is fastest for each shape of convolution, and remembers it.

    Only for training steps: for the VAE, whose convolutions are far larger, measuring takes twice the memory.
    """
    import torch

    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def prepare_attention(denoiser: Any, options: PerformanceOptions) -> None:
    """Select the attention implementation of a denoiser on a GPU."""
    import torch

    # The gradients of cuDNN's were not finite on H100 and H200 (https://github.com/pytorch/pytorch/issues/196678).
    torch.backends.cuda.enable_cudnn_sdp(False)
    if options.attention == "xformers":
        denoiser.enable_xformers_memory_efficient_attention()


def _recompile_limit(compiled: CompiledBlocks, sizes: int) -> int:
    return compiled.shapes * max(sizes, 1)
