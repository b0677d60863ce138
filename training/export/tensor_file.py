"""safetensors files whose bytes depend on their content alone, and the hash by which WebUI knows them."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.workspace import write_atomic

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]

_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64"}


def serialize(tensors: Tensors, metadata: dict[str, str]) -> bytes:
    """A .safetensors file, byte for byte the same for the same content."""
    return b"".join(chunks(tensors, metadata))


def chunks(tensors: Tensors, metadata: dict[str, str]) -> Iterator[bytes]:
    """A .safetensors file in chunks, its header and then each tensor, without a second copy of all of them.

    safetensors' own writer orders metadata by a hash table, which changes from run to run.
    Format: https://github.com/huggingface/safetensors#format
    """
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    offset = 0
    # Wide types first, as safetensors does, so that each tensor is aligned to its element size.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    for name in names:
        value = tensors[name]
        end = offset + value.numel() * value.element_size()
        dtype = _TYPES[str(value.dtype).removeprefix("torch.")]
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": [offset, end]}
        offset = end
    head = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    head += b" " * (-len(head) % 8)  # aligns the data to 8 bytes
    yield len(head).to_bytes(8, "little") + head
    for name in names:
        yield _bytes(tensors[name].detach().cpu().contiguous())


def _bytes(value: torch.Tensor) -> bytes:
    import torch

    return bytes(value.reshape(-1).view(torch.uint8).numpy().tobytes())


def data_sha256(tensors: Tensors) -> str:
    """sha256 of everything after the header, by which WebUI knows a network."""
    digest = hashlib.sha256()
    for chunk in itertools.islice(chunks(tensors, {}), 1, None):
        digest.update(chunk)
    return digest.hexdigest()


def write_tensors(path: Path, tensors: Tensors, metadata: dict[str, str]) -> None:
    write_atomic(path, chunks(tensors, metadata))
