"""Files of tensors: bytes that never vary, and a format that safetensors reads."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load

from training.export.tensor_file import data_sha256, serialize, write_tensors

TYPES = [torch.float32, torch.float16, torch.bfloat16, torch.int64]


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(TYPES), st.lists(st.integers(0, 3), max_size=3)),
        max_size=5,
    ),
    st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=5),
)
def test_safetensors_reads_what_we_write(tmp_path_factory, shapes, metadata):
    tensors = {name: torch.full(shape, 3).to(kind) for name, (kind, shape) in shapes.items()}
    content = serialize(tensors, metadata)
    read = load(content)
    assert read.keys() == tensors.keys()
    for name, value in tensors.items():
        assert read[name].dtype == value.dtype
        assert read[name].shape == value.shape
        assert torch.equal(read[name], value)
    path = tmp_path_factory.getbasetemp() / "written.safetensors"
    path.write_bytes(content)
    with safe_open(path, "pt") as file:
        assert (file.metadata() or {}) == metadata


def test_bytes_do_not_depend_on_order_or_memory_layout():
    one = torch.arange(6.0).reshape(2, 3)
    first = serialize({"a": one, "b": one.half()}, {"x": "1", "y": "2"})
    other = serialize({"b": one.half(), "a": one.T.contiguous().T}, {"y": "2", "x": "1"})
    assert first == other


def test_every_tensor_lies_at_a_multiple_of_its_width():
    tensors = {"a": torch.zeros(3).half(), "b": torch.zeros(1), "c": torch.zeros(1, dtype=torch.int64)}
    content = serialize(tensors, {"odd": "x"})
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    for name, value in tensors.items():
        assert (8 + size + header[name]["data_offsets"][0]) % value.element_size() == 0


def test_hash_is_that_of_the_data(tmp_path):
    tensors = {"b": torch.tensor([1.5, 2.5]), "a": torch.tensor([-1.0])}
    wanted = hashlib.sha256(np.array([-1.0, 1.5, 2.5], dtype="<f4").tobytes()).hexdigest()
    assert data_sha256(tensors) == wanted
    # As WebUI computes it: everything after the header of the file.
    write_tensors(tmp_path / "x.safetensors", tensors, {"some": "metadata"})
    content = (tmp_path / "x.safetensors").read_bytes()
    assert hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest() == wanted
