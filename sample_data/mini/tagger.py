"""mini-tagger: a small convolutional tagger of the world's scenes, in the file format of the WD14 taggers.

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
from sample_data.mini.degradations import degrade
from sample_data.mini.scenes import CACHE, SIDE, TRAINING_SCENES, Scenes, load_scenes
from sample_data.mini.training_loop import TrainingSchedule, load_ema, train_model
from sample_data.world.tags import TAGS

if TYPE_CHECKING:
    import numpy as np
    import torch

_CATEGORIES = {"general": 0, "character": 4, "rating": 9}  # Danbooru's numbers, as WD14's lists have them
# Channels, kernel size and stride of each convolution: 64 pixels become 4 x 4.
_LAYERS = ((32, 5, 2), (48, 3, 2), (64, 3, 1), (96, 3, 2), (112, 3, 1), (128, 3, 2))
_BATCH = 48
SCHEDULE = TrainingSchedule(steps=2_500, learning_rate=2e-3, warmup=100, decay_share=0.6, ema_decay=0.995)


def build_tagger() -> Any:
    """Convolutions with batch norm and ReLU, then one linear layer over all positions.

    Mean pooling would need fewer weights, but ten times as many steps to tell a red shirt from a red hat.
    """
    from torch import nn

    layers: list[nn.Module] = []
    before = 3
    for width, side, stride in _LAYERS:
        layers += [nn.Conv2d(before, width, side, stride, side // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        before = width
    cells = (SIDE // math.prod(stride for *_, stride in _LAYERS)) ** 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * cells, len(TAGS)))


def train_tagger(model: Any, scenes: Scenes, schedule: TrainingSchedule, checkpoint: Path | None = None) -> None:
    """Train the tagger on degraded scenes, so that it works on crops, augmented and generated images."""
    import torch

    images = torch.from_numpy(scenes.images).permute(0, 3, 1, 2)
    targets = torch.from_numpy(scenes.tags).float()
    model.to(memory_format=torch.channels_last).train()

    def loss(step: int, random: torch.Generator) -> torch.Tensor:
        chosen = torch.randint(len(images), (_BATCH,), generator=random)
        degraded = degrade(images[chosen].float() / 255, random).to(memory_format=torch.channels_last)
        return torch.nn.functional.binary_cross_entropy_with_logits(model(degraded), targets[chosen]) * 10

    train_model(model, loss, schedule, checkpoint)
    model.eval()


def write_tagger(model: Any, tags: np.ndarray, folder: Path) -> None:
    """Write model.onnx and selected_tags.csv; `tags` (N, T) of the training scenes give the counts."""
    write_atomic(folder / "model.onnx", onnx_graph(model).SerializeToString())
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("tag_id", "name", "category", "count"))
    for number, (tag, count) in enumerate(zip(TAGS, tags.sum(0).tolist(), strict=True)):
        rows.writerow((number, tag.name.replace(" ", "_"), _CATEGORIES[tag.category], count))
    write_atomic(folder / "selected_tags.csv", text.getvalue().encode())


def onnx_graph(model: Any) -> Any:
    """The model as WD14's are: input (N, SIDE, SIDE, 3) float32 BGR from 0 to 255, output probabilities.

    Batch norm is folded into the convolutions, channel order and range into the first one.
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    nodes = [helper.make_node("Transpose", ["input"], ["x0"], perm=[0, 3, 1, 2])]
    values = []
    layers = list(model)
    for number, at in enumerate(range(0, len(layers) - 2, 3)):
        weight, bias = fold_batch_norm(layers[at], layers[at + 1])
        values += [numpy_helper.from_array(_to_bgr255(weight) if at == 0 else weight, f"w{number}")]
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
    input_info = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch_size", SIDE, SIDE, 3])
    output_info = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch_size", len(TAGS)])
    graph = helper.make_graph(nodes, "mini-tagger", [input_info], [output_info], values)
    model_proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model_proto)
    return model_proto


def fold_batch_norm(convolution: Any, norm: Any) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of a convolution with its batch norm folded in."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    weight = convolution.weight * scale[:, None, None, None]
    bias = norm.bias - norm.running_mean * scale
    return weight.detach().contiguous().numpy(), bias.detach().numpy()


def _to_bgr255(weight: np.ndarray) -> np.ndarray:
    """The first convolution's weight for BGR up to 255 instead of RGB up to 1."""
    import numpy as np

    return np.ascontiguousarray(weight[:, ::-1] / np.float32(255))


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--cache", default=CACHE, type=click.Path(path_type=Path), help="Folder of rendered scenes and checkpoints."
)
@click.option("--steps", default=SCHEDULE.steps, help="Training steps.")
@click.option("--export", is_flag=True, help="Write the EMA weights of an unfinished run without training on.")
def main(out: Path, cache: Path, steps: int, export: bool) -> None:
    """Train mini-tagger and write it to the folder OUT; an interrupted run is resumed."""
    from dataclasses import replace

    import torch

    torch.manual_seed(0)
    scenes = load_scenes(TRAINING_SCENES, cache)
    model, file = build_tagger(), cache / "tagger.safetensors"
    if export:
        load_ema(model, file)
        model.eval()
    else:
        train_tagger(model, scenes, replace(SCHEDULE, steps=steps), file)
    write_tagger(model, scenes.tags, out)


if __name__ == "__main__":
    main()
