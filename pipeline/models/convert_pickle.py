"""From a pickle of tensors to safetensors, without running anything that the pickle asks for."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

from pipeline.errors import PrepError


def to_safetensors(source: Path, target: Path) -> None:
    """Write the tensors of torch's file `source` to `target`; PrepError when it holds anything else.

    torch's own reader for weights only is used, which knows tensors and plain containers and nothing
    that could be called.
    """
    import torch
    from safetensors.torch import save_file

    mend = "Take a model that has safetensors files."
    try:
        state = torch.load(source, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(source))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        why = str(error).strip().split("\n")[0][:120]
        raise PrepError(
            f"{source.name} is a pickle of more than tensors, which prep does not load: {why}", mend
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise PrepError(f"{source.name} is no table of tensors.", mend)
    # Each on its own: tied weights share memory, which the format does not know.
    alone = {str(name): tensor.clone().contiguous() for name, tensor in state.items()}
    save_file(alone, target, metadata={"format": "pt"})
