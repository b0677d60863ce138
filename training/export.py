"""The adapter file: kohya's key names, WebUI's metadata, and bytes that depend on nothing but the content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.workspace import write_atomic

if TYPE_CHECKING:
    import torch

    from training.families.family import Family

    Tensors = dict[str, torch.Tensor]

_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64"}
_ENDS = {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight"}


def adapter_keys(weights: Tensors, family: Family, part: str, alpha: float) -> Tensors:
    """peft's names to the family's: kohya's, with one alpha each, or diffusers', where the weights hold alpha."""
    return (
        kohya_keys(weights, partial(family.key, part), alpha)
        if family.kohya
        else plain_keys(weights, partial(family.key, part), alpha)
    )


def plain_keys(weights: Tensors, key: Callable[[str], str], alpha: float) -> Tensors:
    """diffusers' names: '<key of a.b>.lora_A.weight'. They have no alpha, so the second matrix is scaled by it."""
    named: Tensors = {}
    for name, value in weights.items():
        path, end = name.rsplit(".", 2)[0], name.split(".")[-2] + ".weight"
        scale = alpha / value.shape[1] if end == "lora_B.weight" else 1.0
        named[f"{key(path)}.{end}"] = (value.float() * scale).to(value.dtype)
    return named


def kohya_keys(weights: Tensors, key: Callable[[str], str], alpha: float) -> Tensors:
    """kohya's names: 'a.b.lora_A.weight' becomes '<key of a.b>.lora_down.weight', with one alpha each."""
    import torch

    named: Tensors = {}
    for name, value in weights.items():
        path, end = name.rsplit(".", 2)[0], name.split(".")[-2] + ".weight"
        module = key(path)
        named[f"{module}.{_ENDS[end]}"] = value
        named[f"{module}.alpha"] = torch.tensor(alpha, dtype=value.dtype)
    return named


def serialise(tensors: Tensors, metadata: dict[str, str]) -> bytes:
    """A .safetensors file, byte for byte the same for the same content.

    safetensors' own writer puts metadata in the order of a hash table that changes from run to run.
    Format: https://github.com/huggingface/safetensors#format
    """
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    chunks, offset = [], 0
    # Wide types first, as safetensors does, so that each begins at a multiple of its own width.
    for name in sorted(tensors, key=lambda name: (-tensors[name].element_size(), name)):
        value = tensors[name].detach().cpu().contiguous()
        data = _bytes(value)
        header[name] = {
            "dtype": _TYPES[str(value.dtype).removeprefix("torch.")],
            "shape": list(value.shape),
            "data_offsets": [offset, offset + len(data)],
        }
        chunks.append(data)
        offset += len(data)
    head = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    head += b" " * (-len(head) % 8)  # the data begins at a multiple of eight bytes
    return b"".join([len(head).to_bytes(8, "little"), head, *chunks])


def _bytes(value: torch.Tensor) -> bytes:
    import torch

    return bytes(value.reshape(-1).view(torch.uint8).numpy().tobytes())


def data_sha256(tensors: Tensors) -> str:
    """sha256 of what follows the header, the hash that WebUI knows a network by."""
    whole = serialise(tensors, {})
    return hashlib.sha256(whole[8 + int.from_bytes(whole[:8], "little") :]).hexdigest()


def write_tensors(path: Path, tensors: Tensors, metadata: dict[str, str]) -> None:
    write_atomic(path, serialise(tensors, metadata))
