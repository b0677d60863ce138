"""Files beside an ONNX graph in which its weights are: a model above 2 GB cannot keep them in the graph."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pipeline.errors import PrepError

GRAPH = ".onnx"
# What exporters append to the graph's name: torch writes model.onnx.data, optimum model.onnx_data (and _data_1 ...).
DATA_MARKS = (".onnx.data", ".onnx_data")

# Fields of onnx.proto, by message, that lead to the places of external data.
_PATHS: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 25: "Function"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}
_FIXED = {1: 8, 5: 4}  # bytes of the wire types of fixed length


def external_data(graph: Path) -> tuple[str, ...]:
    """The files with the weights of an ONNX graph, relative to its folder, sorted; none where it has them itself.

    Reads the graph's structure and skips its tensors (github.com/onnx/onnx, onnx.proto and ExternalData.md). Empty
    for a file that is no complete ONNX graph, which onnxruntime then refuses. PrepError for a file outside the folder.
    """
    with graph.open("rb") as file:
        if not graph.stat().st_size:
            return ()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                names = set(_locations(data, 0, len(data), "Model"))
            except (IndexError, ValueError, UnicodeDecodeError, RecursionError):
                return ()
    return tuple(sorted(_inside(graph, name) for name in names))


def is_data_of(name: str, graph: str) -> bool:
    """Whether a file's name says that it has the weights of this graph."""
    return graph.endswith(GRAPH) and name.startswith((f"{graph}.data", f"{graph}_data"))


def _inside(graph: Path, name: str) -> str:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in name or any(ord(letter) < 32 for letter in name):
        raise PrepError(f"{graph} has weights in {name!r}, outside its folder.", "Do not use this model.")
    return str(parts)


def _locations(data: mmap.mmap, start: int, end: int, message: str) -> Iterator[str]:
    """The locations of external data in a message of onnx.proto that lies from `start` to `end`."""
    for number, begin, stop in _fields(data, start, end):
        kind = _PATHS[message].get(number)
        if kind == "Entry":
            entry = {field: bytes(data[one:two]) for field, one, two in _fields(data, begin, stop)}
            if entry.get(1) == b"location":
                yield entry.get(2, b"").decode()
        elif kind:
            yield from _locations(data, begin, stop, kind)


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The fields of a protobuf message with bytes in them: number, and from where to where."""
    at = start
    while at < end:
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            _, at = _varint(data, at)
        elif wire == 2:
            length, at = _varint(data, at)
            if at + length > end:
                raise ValueError("a field is longer than its message")
            yield number, at, at + length
            at += length
        else:
            at += _FIXED.get(wire) or _unknown(wire)


def _unknown(wire: int) -> int:
    raise ValueError(f"wire type {wire} is none that ONNX uses")


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number has more than ten bytes")
