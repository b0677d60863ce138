"""Models with random weights for benchmarks/tag.py, in the real formats and sizes, without a download."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIDE, PATCH, TAGS = 448, 16, 10_861


@dataclass(frozen=True)
class Size:
    """The size of a vision transformer."""

    width: int
    layers: int
    heads: int


SIZES = {"vit": Size(768, 12, 12), "tiny": Size(192, 12, 3), "blip": Size(384, 12, 6)}


def write_model(folder: Path, size: Size) -> Path:
    """A folder in WD14's format: model.onnx with random weights, and selected_tags.csv."""
    import onnx
    from onnx import TensorProto, helper

    write_tags(folder)
    net = Transformer(size)
    graph = helper.make_graph(
        net.nodes,
        "vit",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ("batch_size", SIDE, SIDE, 3))],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ("batch_size", TAGS))],
        net.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, str(folder / "model.onnx"))
    return folder


def write_tags(folder: Path) -> None:
    """Write selected_tags.csv with 10,861 tags, of which the first four are ratings."""
    folder.mkdir(parents=True)
    with (folder / "selected_tags.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("tag_id", "name", "category", "count"))
        writer.writerows((n, f"tag_{n}", 9 if n < 4 else 0 if n < 8110 else 4, 1) for n in range(TAGS))


def write_mean_color(folder: Path) -> Path:
    """A folder in WD14's format with a trivial model, linear in the mean color; about 100 tags pass 0.05."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    write_tags(folder)
    random = np.random.default_rng(0)
    constants = {
        "axes": np.array([1, 2], np.int64),
        "matrix": random.normal(0, 0.5 / 255, (3, TAGS)).astype(np.float32),
        "bias": random.normal(-6, 1.3, TAGS).astype(np.float32),
    }
    nodes = [
        helper.make_node("ReduceMean", ["input", "axes"], ["means"], keepdims=0),
        helper.make_node("Gemm", ["means", "matrix", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "glance",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ("batch_size", 64, 64, 3))],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ("batch_size", TAGS))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, str(folder / "model.onnx"))
    return folder


def write_blip(folder: Path, size: Size) -> Path:
    """A folder in BLIP's format, images of 384 pixels in patches of 16; it never generates an end token."""
    import torch
    from transformers import BertTokenizerFast, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor

    folder.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{n}" for n in range(30_517)), "[DEC]", "[ENC]"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)
    shape = {
        "hidden_size": size.width,
        "intermediate_size": 4 * size.width,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
    }
    ends = {"bos_token_id": len(words) - 2, "sep_token_id": 3, "pad_token_id": 0, "eos_token_id": 2}
    torch.manual_seed(0)
    model = BlipForConditionalGeneration(
        BlipConfig(
            text_config={**shape, **ends, "vocab_size": len(words), "encoder_hidden_size": size.width},
            vision_config={**shape, "image_size": 384, "patch_size": 16},
        )
    )
    with torch.no_grad():
        model.text_decoder.cls.predictions.bias[3] = -1e4
    model.save_pretrained(folder)
    BlipImageProcessor(size={"height": 384, "width": 384}).save_pretrained(folder)
    return folder


class Transformer:
    """The ONNX nodes and weights of a vision transformer, layer by layer."""

    def __init__(self, size: Size) -> None:
        import numpy as np

        self.random = np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        x = self.node("Transpose", "input", perm=[0, 3, 1, 2])
        x = self.node("Mul", x, self.values(np.float32(1 / 255)))
        x = self.node("Conv", x, self.matrix(size.width, 3, PATCH, PATCH), strides=[PATCH, PATCH])
        x = self.node("Reshape", x, self.values(np.array([0, size.width, -1], np.int64)))
        x = self.node("Transpose", x, perm=[0, 2, 1])
        x = self.node("Add", x, self.matrix(1, (SIDE // PATCH) ** 2, size.width))
        for _ in range(size.layers):
            x = self.node("Add", x, self.attention(self.norm(x, size.width), size))
            x = self.node("Add", x, self.feed_forward(self.norm(x, size.width), size.width))
        x = self.node("ReduceMean", self.norm(x, size.width), self.values(np.array([1], np.int64)), keepdims=0)
        x = self.node("Add", self.node("MatMul", x, self.matrix(size.width, TAGS)), self.values(np.float32(-6)))
        self.node("Sigmoid", x, to="output")

    def attention(self, x: str, size: Size) -> str:
        import numpy as np

        split = self.values(np.array([0, 0, size.heads, -1], np.int64))
        query, key, value = (
            self.node(
                "Transpose", self.node("Reshape", self.node("MatMul", x, self.square(size.width)), split), perm=order
            )
            for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        )
        scores = self.node(
            "Mul", self.node("MatMul", query, key), self.values(np.float32((size.width / size.heads) ** -0.5))
        )
        mixed = self.node(
            "Transpose", self.node("MatMul", self.node("Softmax", scores, axis=-1), value), perm=[0, 2, 1, 3]
        )
        joined = self.node("Reshape", mixed, self.values(np.array([0, 0, -1], np.int64)))
        return self.node("MatMul", joined, self.square(size.width))

    def feed_forward(self, x: str, width: int) -> str:
        import numpy as np

        x = self.node("MatMul", x, self.matrix(width, 4 * width))
        bell = self.node("Erf", self.node("Mul", x, self.values(np.float32(0.5**0.5))))
        x = self.node(
            "Mul", self.node("Mul", x, self.node("Add", bell, self.values(np.float32(1)))), self.values(np.float32(0.5))
        )
        return self.node("MatMul", x, self.matrix(4 * width, width))

    def norm(self, x: str, width: int) -> str:
        import numpy as np

        return self.node(
            "LayerNormalization", x, self.values(np.ones(width, np.float32)), self.values(np.zeros(width, np.float32))
        )

    def square(self, width: int) -> str:
        return self.matrix(width, width)

    def matrix(self, *shape: int) -> str:
        import numpy as np

        return self.values((self.random.standard_normal(shape, np.float32) * 0.02).astype(np.float32))

    def values(self, array: Any) -> str:
        import numpy as np
        from onnx import numpy_helper

        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, operator: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = to or f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name
