"""Convert a pickle of tensors to safetensors without running anything that the pickle asks for."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

from pipeline.errors import PrepError, first_line
from pipeline.save_tensors import save_tensors


def to_safetensors(source: Path, target: Path) -> None:
    """Write the tensors of torch's file `source` to `target`; PrepError when it holds anything else.

    torch.load with weights_only knows tensors and plain containers, and nothing that could be called.
    """
    import torch

    hint = "Choose a model that has safetensors files."
    try:
        state = torch.load(source, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(source))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = first_line(error)[:120]
        raise PrepError(
            f"{source.name} is a pickle of more than tensors, which prep does not load: {reason}", hint
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise PrepError(f"{source.name} is not a mapping of names to tensors.", hint)
    # Tied weights share memory, which the safetensors format cannot express: each gets a copy.
    tensors = {str(name): tensor.clone().contiguous() for name, tensor in state.items()}
    save_tensors(tensors, target, {"format": "pt"})
