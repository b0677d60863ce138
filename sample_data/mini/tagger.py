"""The mini-tagger: a small convolutional net that names what is seen in the world, in WD14's file contract.

python -m sample_data.mini.tagger OUT
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.workspace import write_atomic
from sample_data.mini.degradations import smeared
from sample_data.mini.scenes import CACHE, SIDE, TAUGHT, Scenes, scenes
from sample_data.mini.training_loop import Course, load_average, practise
from sample_data.world.tags import TAGS

if TYPE_CHECKING:
    import numpy as np
    import torch

_CATEGORIES = {"general": 0, "character": 4, "rating": 9}  # Danbooru's numbers, as WD14's lists have them
# Each convolution's channels, the sides of its window, and its stride: 64 pixels become 4 x 4.
_LAYERS = ((32, 5, 2), (48, 3, 2), (64, 3, 1), (96, 3, 2), (112, 3, 1), (128, 3, 2))
_BATCH = 48
COURSE = Course(steps=2_500, rate=2e-3, warm=100, cool=0.6, keep=0.995)


def net() -> Any:
    """Convolutions, each normalised and cut at zero, then a number per tag from what is where.

    The mean over the image would do with fewer weights, but takes ten times as long to tell a red shirt
    from a red hat.
    """
    from torch import nn

    layers: list[nn.Module] = []
    before = 3
    for width, side, stride in _LAYERS:
        layers += [nn.Conv2d(before, width, side, stride, side // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        before = width
    cells = (SIDE // math.prod(stride for *_, stride in _LAYERS)) ** 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * cells, len(TAGS)))


def teach(model: Any, seen: Scenes, course: Course, file: Path | None = None) -> None:
    """Teach the net on scenes, smeared as crops, copies and painted images are."""
    import torch

    images = torch.from_numpy(seen.images).permute(0, 3, 1, 2)
    wanted = torch.from_numpy(seen.tags).float()
    model.to(memory_format=torch.channels_last).train()

    def loss(step: int, random: torch.Generator) -> torch.Tensor:
        chosen = torch.randint(len(images), (_BATCH,), generator=random)
        shown = smeared(images[chosen].float() / 255, random).to(memory_format=torch.channels_last)
        return torch.nn.functional.binary_cross_entropy_with_logits(model(shown), wanted[chosen]) * 10

    practise(model, loss, course, file)
    model.eval()


def write(model: Any, tags: np.ndarray, folder: Path) -> None:
    """Write model.onnx and selected_tags.csv; `tags` (N, T) are those of the scenes it learned from, to be counted."""
    write_atomic(folder / "model.onnx", onnx_graph(model).SerializeToString())
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("tag_id", "name", "category", "count"))
    for number, (tag, count) in enumerate(zip(TAGS, tags.sum(0).tolist(), strict=True)):
        rows.writerow((number, tag.name.replace(" ", "_"), _CATEGORIES[tag.category], count))
    write_atomic(folder / "selected_tags.csv", text.getvalue().encode())


def onnx_graph(model: Any) -> Any:
    """The net as WD14's models are: (N, SIDE, SIDE, 3) float32 BGR from 0 to 255 in, probabilities out.

    The normalisations are folded into the convolutions, the colors' order and range into the first.
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    nodes = [helper.make_node("Transpose", ["input"], ["x0"], perm=[0, 3, 1, 2])]
    values = []
    layers = list(model)
    for number, at in enumerate(range(0, len(layers) - 2, 3)):
        weight, bias = folded(layers[at], layers[at + 1])
        values += [numpy_helper.from_array(_turned(weight) if at == 0 else weight, f"w{number}")]
        values += [numpy_helper.from_array(bias, f"b{number}")]
        side, stride = layers[at].kernel_size[0], layers[at].stride[0]
        shape: dict[str, Any] = {"kernel_shape": [side] * 2, "strides": [stride] * 2, "pads": [side // 2] * 4}
        nodes.append(helper.make_node("Conv", [f"x{number}", f"w{number}", f"b{number}"], [f"y{number}"], **shape))
        nodes.append(helper.make_node("Relu", [f"y{number}"], [f"x{number + 1}"]))
    head = layers[-1]
    values += [numpy_helper.from_array(head.weight.detach().numpy(), "wt")]
    values += [numpy_helper.from_array(head.bias.detach().numpy(), "bt")]
    nodes += [
        helper.make_node("Flatten", [nodes[-1].output[0]], ["flat"]),
        helper.make_node("Gemm", ["flat", "wt", "bt"], ["logits"], transB=1),
        helper.make_node("Sigmoid", ["logits"], ["output"]),
    ]
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch_size", SIDE, SIDE, 3])
    made = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch_size", len(TAGS)])
    graph = helper.make_graph(nodes, "mini-tagger", [given], [made], values)
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(whole)
    return whole


def folded(convolution: Any, norm: Any) -> tuple[np.ndarray, np.ndarray]:
    """The weight and bias of one convolution that does what it and its normalisation do."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    weight = convolution.weight * scale[:, None, None, None]
    bias = norm.bias - norm.running_mean * scale
    return weight.detach().contiguous().numpy(), bias.detach().numpy()


def _turned(weight: np.ndarray) -> np.ndarray:
    """The first weight for BGR up to 255 instead of RGB up to 1."""
    import numpy as np

    return np.ascontiguousarray(weight[:, ::-1] / np.float32(255))


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--cache", default=CACHE, type=click.Path(path_type=Path), help="Folder of painted scenes and of the run."
)
@click.option("--steps", default=COURSE.steps, help="Steps of the course.")
@click.option("--export", is_flag=True, help="Write what a run under way has learned so far, and teach no more.")
def main(out: Path, cache: Path, steps: int, export: bool) -> None:
    """Teach the mini-tagger and write it to the folder OUT; a run that was broken off goes on."""
    from dataclasses import replace

    import torch

    torch.manual_seed(0)
    seen = scenes(TAUGHT, cache)
    model, file = net(), cache / "tagger.safetensors"
    if export:
        load_average(model, file)
        model.eval()
    else:
        teach(model, seen, replace(COURSE, steps=steps), file)
    write(model, seen.tags, out)


if __name__ == "__main__":
    main()
