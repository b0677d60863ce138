"""Stand-ins for tests: a tagger without weights, and small model folders in the real formats."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pipeline.record import Annotation, ImageInfo, Record
from pipeline.stage import option
from pipeline.workspace import Workspace
from taggers.tagger import PredictFn, Tagger

TAGS = ("1girl", "solo", "long_hair", "^_^", 'don\'t_say_"lazy"', "smile_(object)", "outdoors", "orange_theme")
CHARACTERS = ("eileen_collins", "chelsea_(cat)")
RATINGS = ("general", "sensitive", "questionable", "explicit")
CELLS = 3  # the fake model sees an image as 3 x 3 cells of 3 channels


@dataclass(frozen=True, kw_only=True)
class FakeTagger(Tagger):
    """Says an image's size, and `word` with its mean level as the score."""

    name: ClassVar[str] = "fake"

    word: str = option("fake", "What to say.")

    def load(self, workspace: Workspace) -> PredictFn:
        def look(images):
            return [
                [
                    Annotation(f"{p.shape[1]}x{p.shape[0]}", "tag", "size", 1.0, self.signature),
                    Annotation(self.word, "tag", "general", round(float(p.mean()) / 255, 4), self.signature),
                ]
                for p in images
            ]

        return look


def write_wd14(
    folder: Path, tags: Sequence[str] = TAGS, characters: Sequence[str] = CHARACTERS, side: int = 48, batch: int = 0
) -> Path:
    """Write a folder of WD14's form, model.onnx and selected_tags.csv; returns the folder.

    Four ratings, then `tags`, then `characters`. `batch` 0 takes any number of images at once.
    Scores are sigmoid(means @ weights + bias) of the image's cells, see `weights` and `cell_means`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [(9, name) for name in RATINGS] + [(0, name) for name in tags] + [(4, name) for name in characters]
    write_csv(folder / "selected_tags.csv", rows)
    write_graph(folder / "model.onnx", len(rows), side, batch)
    return folder


def write_csv(path: Path, rows: Sequence[tuple[object, str]], end: str = "\n") -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator=end)
        writer.writerow(("tag_id", "name", "category", "count"))
        writer.writerows((number, name, category, 1000 - number) for number, (category, name) in enumerate(rows))


def weights(outputs: int):
    """The fake model's matrix, 27 x outputs, and bias: fixed, no two columns alike, scores spread over 0 to 1."""
    import numpy as np

    count = CELLS * CELLS * 3
    i, j = np.meshgrid(np.arange(count), np.arange(outputs), indexing="ij")
    matrix = 3.0 * np.sin(1.7 * i + 0.9 * j * j + 0.3 * i * j)
    return matrix.astype(np.float32), (2.0 * np.cos(2.3 * np.arange(outputs)) - 1.0).astype(np.float32)


def write_graph(path: Path, outputs: int, side: int, batch: int, layout: str = "NHWC") -> None:
    """A WD14-shaped graph: images in `layout`, raw 0 to 255, to the sigmoid of their weighted cell means."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    matrix, bias = weights(outputs)
    cell = side // CELLS
    first = batch or "batch_size"
    shape = (first, side, side, 3) if layout == "NHWC" else (first, 3, side, side)
    ints = {"cells": [-1, CELLS, cell, CELLS, cell, 3], "axes": [2, 4], "flat": [-1, CELLS * CELLS * 3]}
    constants = [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in ints.items()]
    constants += [numpy_helper.from_array(matrix / np.float32(255), "matrix"), numpy_helper.from_array(bias, "bias")]
    nodes = [
        helper.make_node("Reshape", ["input_1:0", "cells"], ["split"]),
        helper.make_node("ReduceMean", ["split", "axes"], ["means"], keepdims=0),
        helper.make_node("Reshape", ["means", "flat"], ["row"]),
        helper.make_node("Gemm", ["row", "matrix", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["predictions_sigmoid"]),
    ]
    graph = helper.make_graph(
        nodes,
        "wd14",
        [helper.make_tensor_value_info("input_1:0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("predictions_sigmoid", TensorProto.FLOAT, (first, outputs))],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def cropped(workspace: Workspace, name: str, pixels) -> Record:
    """A record whose cropped image, an H x W x 3 uint8 array, lies in the workspace as prep would write it."""
    from PIL import Image

    path = workspace.images / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    height, width = pixels.shape[:2]
    image = ImageInfo(workspace.relative(path), width, height, "0" * 64, "0" * 16, "0" * 64)
    return Record(name, f"raw/{name}.jpg", "0" * 64, "smith", "man", "train", image=image)
