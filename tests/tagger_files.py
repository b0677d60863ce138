"""Small model folders in the formats of every tagger that needs a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from taggers.captioners.blip import Blip
from taggers.captioners.git import Git
from taggers.captioners.vlm import Vlm
from taggers.clip.clip import Clip
from taggers.danbooru.deepdanbooru import DeepDanbooru
from taggers.danbooru.wd14 import Wd14
from taggers.tagger import Tagger
from tests.fake import CELLS, weights, write_wd14
from tests.tiny import write_blip, write_blip2, write_clip, write_git
from tests.tiny_chat import write_florence, write_joy, write_qwen

CL_TAGGER_TAGS = (
    ("general", "Rating"),
    ("explicit", "Rating"),
    ("1girl", "General"),
    ("long_hair", "General"),
    ("eileen_collins", "Character"),
    ("nasa", "Copyright"),
    ("highres", "Meta"),
    ("some_model", "Model"),
    ("best_quality", "Quality"),
    ("a_painter", "Artist"),
)


def write_cl_tagger(folder, model="model_optimized.onnx", side=48, dtype="FLOAT", older=False, batch="batch"):
    """The form's files: logits = means of the three channels' cells @ matrix, from N x 3 x side x side."""
    folder.mkdir(parents=True, exist_ok=True)
    if older:
        numbers = {str(n): text for n, (text, _) in enumerate(CL_TAGGER_TAGS)}
        plain = {"idx_to_tag": numbers, "tag_to_category": dict(CL_TAGGER_TAGS)}
    else:
        plain = {
            str(n): {"tag": text, "category": word} for n, (text, word) in reversed(list(enumerate(CL_TAGGER_TAGS)))
        }
    (folder / "tag_mapping.json").write_text(json.dumps(plain), encoding="utf-8")
    kind = getattr(onnx.TensorProto, dtype)
    numbers = np.float32 if dtype == "FLOAT" else np.float16
    ints = {"cells": [-1, 3, CELLS, 48 // CELLS, CELLS, 48 // CELLS], "axes": [3, 5], "flat": [-1, 27]}
    constants = [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in ints.items()]
    constants.append(numpy_helper.from_array(weights(len(CL_TAGGER_TAGS))[0].astype(numbers), "matrix"))
    make = onnx.helper.make_node
    nodes = [
        make("Reshape", ["pixels", "cells"], ["split"]),
        make("ReduceMean", ["split", "axes"], ["means"], keepdims=0),
        make("Reshape", ["means", "flat"], ["row"]),
        make("MatMul", ["row", "matrix"], ["logits"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "cl",
        [onnx.helper.make_tensor_value_info("pixels", kind, (batch, 3, side, side))],
        [onnx.helper.make_tensor_value_info("logits", kind, (batch, len(CL_TAGGER_TAGS)))],
        constants,
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(made, str(folder / model))
    return folder


DEEPDANBOORU_TAGS = ["1girl", "solo", "^_^", "long_hair", "rating:safe", "rating:questionable", "rating:explicit"]


REPEATS = (2, 7, 19, 19, 2, 2)  # identity blocks after the first of each stage


def small_weights(widths=(8, 12, 8, 12, 8, 16), stem=4, tags=len(DEEPDANBOORU_TAGS), seed=0):
    """All 357 tensors of the real names with few channels; drawn so that signals neither die nor explode."""
    rng = np.random.default_rng(seed)
    found = {}

    def add(number, out, into, kernel, bias=True):
        found[f"n_Conv_{number}.weight"] = rng.normal(0, (1.2 / (into * kernel**2)) ** 0.5, (out, into, kernel, kernel))
        if bias:
            found[f"n_Conv_{number}.bias"] = rng.normal(0, 0.2, out)

    add(0, stem, 3, 7)
    number, before = 1, stem
    for stage, (width, repeats) in enumerate(zip(widths, REPEATS, strict=True)):
        main = [(width // 4, before, 1), (width // 4, width // 4, 3), (width, width // 4, 1)]
        short = [(width, before, 1)]
        for out, into, kernel in main + short if stage == 3 else short + main:
            add(number, out, into, kernel)
            number += 1
        for _ in range(repeats):
            for out, into, kernel in [(width // 4, width, 1), (width // 4, width // 4, 3), (width, width // 4, 1)]:
                add(number, out, into, kernel)
                number += 1
        before = width
    assert number == 178
    add(178, tags, before, 1, bias=False)
    found["n_Conv_178.weight"] *= 0.15  # so that no score is close to 0 or 1
    return {name: value.astype(np.float32) for name, value in found.items()}


def tensors(weights):
    return {name: torch.from_numpy(value) for name, value in weights.items()}


def write_deepdanbooru(folder, plain=None, half=False):
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: t.half() if half else t for name, t in tensors(small_weights()).items()}
    torch.save({**state, "tags": DEEPDANBOORU_TAGS} if plain is None else plain, folder / "model-resnet_custom_v3.pt")
    return folder


def write_deepdanbooru_project(folder, side=24, tags=DEEPDANBOORU_TAGS, end="\n"):
    """sigmoid(mean of each channel @ matrix): what the tests compute again."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "project.json").write_text(json.dumps({"image_width": side, "image_height": side, "model": "x"}))
    (folder / "tags.txt").write_bytes(end.join([*tags, ""]).encode())
    matrix = np.sin(np.arange(3 * len(DEEPDANBOORU_TAGS), dtype=np.float32) * 2.1).reshape(3, -1) * 3
    constants = [
        numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
        numpy_helper.from_array(matrix, "matrix"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["input_1", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "matrix"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "project",
        [helper.make_tensor_value_info("input_1", TensorProto.FLOAT, ("n", 24, 24, 3))],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ("n", len(DEEPDANBOORU_TAGS)))],
        constants,
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), str(folder / "model.onnx")
    )
    return folder, matrix


# By format: the tagger, and what writes a small model folder of it.
FORMATS: dict[str, tuple[type[Tagger], Callable[[Path], object]]] = {
    "wd14": (Wd14, write_wd14),
    "cl_tagger": (Wd14, write_cl_tagger),
    "deepdanbooru": (DeepDanbooru, write_deepdanbooru),
    "deepdanbooru project": (DeepDanbooru, write_deepdanbooru_project),
    "blip": (Blip, write_blip),
    "blip2": (Blip, write_blip2),
    "git": (Git, write_git),
    "qwen": (Vlm, write_qwen),
    "joycaption": (Vlm, write_joy),
    "florence": (Vlm, write_florence),
    "clip": (Clip, write_clip),
}
