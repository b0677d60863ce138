"""How much of a model's own speed prep's tagging keeps: python benchmarks/tag.py [--rounds 5] [--model vit tiny].

Three contenders take turns, round after round, with one and the same loaded model:
  bare   the model in a loop on arrays that lie ready in memory, in prep's batches: nobody is faster;
  prep   `prep tag wd14` without the start of Python and the loading: read, prepare, infer, write the manifest;
  loop   what most tools do: open, prepare, infer, one picture after another.
The models are vision transformers of WD14's form with random weights, written by this script: `vit`
is of the size of wd-vit-tagger-v3 (patches of 16, width 768, 12 layers, 10,861 tags), `tiny` has a
quarter of the width. The pictures are photographs in the sizes that `prep crop` gives at 512 pixels.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SIDE, PATCH, TAGS = 448, 16, 10_861
TO_REACH = 0.95  # of the bare model's pictures per second


@dataclass(frozen=True)
class Size:
    """A vision transformer, and how many pictures show its speed."""

    width: int
    layers: int
    heads: int
    pictures: int


SIZES = {"vit": Size(768, 12, 12, 16), "tiny": Size(192, 12, 3, 128)}


def write_model(folder: Path, size: Size) -> Path:
    """A folder of WD14's form: model.onnx with random weights, and a selected_tags.csv of as many tags."""
    import onnx
    from onnx import TensorProto, helper

    folder.mkdir(parents=True)
    with (folder / "selected_tags.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("tag_id", "name", "category", "count"))
        writer.writerows((n, f"tag_{n}", 9 if n < 4 else 0 if n < 8110 else 4, 1) for n in range(TAGS))
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


class Transformer:
    """The nodes and weights of a vision transformer, written down layer by layer."""

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


def write_pictures(home: Path, count: int) -> tuple[Any, Any]:
    """A workspace with `count` different pictures as `prep crop` leaves them, and their manifest."""
    import numpy as np
    from PIL import Image, ImageOps

    from pipeline.imaging.picture import save
    from pipeline.manifest import write_manifest
    from pipeline.record import Record
    from pipeline.stage import Step
    from pipeline.workspace import Workspace
    from tests.shell import photographs

    workspace = Workspace(home)
    sources = [Image.open(path).convert("RGB") for path in photographs() if path.stat().st_size > 100_000]
    sizes = ((512, 512), (448, 576), (576, 448), (384, 640))
    records = []
    for n in range(count):
        image = ImageOps.fit(sources[n % len(sources)], sizes[n % 4], centering=(n / count, 1 - n / count))
        picture = save(workspace, np.asarray(image))
        records.append(Record(f"{n:016x}", f"raw/{n}.jpg", "0" * 64, "x", "thing", "train", picture=picture))
    return workspace, write_manifest(workspace.manifest("crop"), [records], (Step("crop", 1, {}, ""),))


def contenders(model: Path, workspace: Any, crops: Any, device: str) -> dict[str, Callable[[], int]]:
    """What is to be timed: functions that tag all pictures once and return their number."""
    import numpy as np
    from PIL import Image

    from pipeline.engines import local
    from pipeline.imaging.picture import load_rgb
    from pipeline.run import Plan, Settings, bring
    from taggers.danbooru.onnx_tags import open_net, split
    from taggers.danbooru.scores import Listing
    from taggers.danbooru.wd14 import FORMS, Wd14, prepare
    from taggers.danbooru.wd14_tags import read_csv

    tagger = Wd14(model=str(model), device=device)
    listing = Listing(read_csv(model / "selected_tags.csv", ""), "selected_tags.csv", "model.onnx", tagger.by, "")
    net = open_net(model / "model.onnx", listing, FORMS[0].contract, device)
    look = split(net, listing, lambda picture: prepare(picture, net.side), tagger.floor)

    class Loaded(Wd14):
        def load(self, workspace):
            return look

    loaded = Loaded(model=str(model), device=device)
    paths = [workspace.path(record.picture.path) for record in crops.records() if record.kept]
    arrays = [prepare(load_rgb(path), SIDE) for path in paths]
    ready = [np.stack(arrays[n : n + look.chunk]) for n in range(0, len(arrays), look.chunk)]

    def run(batch: Any) -> Any:
        return net.session.run([net.output], {net.input: batch})[0]

    def bare() -> int:
        return sum(len(run(batch)) for batch in ready)

    def prep() -> int:
        workspace.manifest("tag").unlink(missing_ok=True)
        done = bring(Plan("tag", (loaded,)), crops, workspace, Settings(local.run, 2, quiet=True))
        return done.manifest.counts.kept

    def loop() -> int:
        for path in paths:
            image = Image.open(path).convert("RGB")
            longest = max(image.size)
            square = Image.new("RGB", (longest, longest), (255, 255, 255))
            square.paste(image, ((longest - image.width) // 2, (longest - image.height) // 2))
            array = np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)[None, :, :, ::-1]
            scores = run(np.ascontiguousarray(array))[0]
            [(tag.text, float(score)) for tag, score in zip(listing.tags, scores, strict=True) if score > 0.35]
        return len(paths)

    return {"bare": bare, "prep": prep, "loop": loop}


def reading(workspace: Any, crops: Any) -> float:
    """Processor seconds in which one thread reads and prepares one picture: what no tagger can do without."""
    from pipeline.imaging.picture import load_rgb
    from taggers.danbooru.wd14 import prepare

    paths = [workspace.path(record.picture.path) for record in crops.records()]
    costs = []
    for path in paths:
        start = time.process_time()
        prepare(load_rgb(path), SIDE)
        costs.append(time.process_time() - start)
    return statistics.median(costs)


@dataclass(frozen=True)
class Run:
    """One contender's round."""

    rate: float  # pictures per second
    processor: float  # seconds of all cores per picture


def measure(works: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[Run]]:
    """Every contender's rounds, taken in turn; all of them once before, unmeasured."""
    runs: dict[str, list[Run]] = {name: [] for name in works}
    for turn in range(-1, rounds):
        names = list(works) if turn % 2 else list(works)[::-1]  # so that nobody always comes after the same
        for name in names:
            start, spent = time.perf_counter(), time.process_time()
            count = works[name]()
            if turn >= 0:
                run = Run(count / (time.perf_counter() - start), (time.process_time() - spent) / count)
                runs[name].append(run)
                print(f"  round {turn + 1} of {rounds}: {name}, {run.rate:.2f} a second", file=sys.stderr)
    return runs


def report(name: str, size: Size, runs: dict[str, list[Run]], cost: float) -> None:
    """Print one model's table, and whether prep keeps enough of the model's speed."""
    from taggers.device import cores

    rate = {who: statistics.median(run.rate for run in found) for who, found in runs.items()}
    processor = {who: statistics.median(run.processor for run in found) for who, found in runs.items()}
    print(f"\n{name}: width {size.width}, {size.layers} layers, {SIDE} pixels; {size.pictures} pictures, medians\n")
    print(f"{'contender':12}{'a second':>10}{'spread':>9}{'of bare':>10}{'processor ms':>14}")
    for who, found in runs.items():
        spread = (max(run.rate for run in found) - min(run.rate for run in found)) / rate[who]
        print(f"{who:12}{rate[who]:10.2f}{spread:9.0%}{rate[who] / rate['bare']:10.2f}{1000 * processor[who]:14.1f}")
    # Round by round: what else the machine does meets neighbours alike.
    share = statistics.median(ours.rate / bare.rate for ours, bare in zip(runs["prep"], runs["bare"], strict=True))
    spent = processor["bare"] / processor["prep"]
    verdict = "reached    " if share >= TO_REACH else "not reached"
    print(f"\n{verdict}  prep at no less than {TO_REACH} of the bare model, round by round: {share:.3f}", end=" ")
    print(f"(by processor time, whatever else ran: {spent:.3f})")
    most = processor["bare"] / (processor["bare"] + cost)
    print(f"Reading a picture takes {1000 * cost:.1f} ms of a core. Where the model works on the same cores")
    print(f"(here {cores()}), nobody passes {most:.3f}; with the model on a GPU that bound falls away.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--pictures", type=int, help="instead of 16 for vit and 128 for tiny")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options = parser.parse_args()
    for name in options.model:
        size = SIZES[name]
        size = Size(size.width, size.layers, size.heads, options.pictures or size.pictures)
        with tempfile.TemporaryDirectory(prefix="prep-tag-") as folder:
            os.environ["PREP_MODELS"] = folder
            model = write_model(Path(folder) / f"{name}-tagger", size)
            workspace, crops = write_pictures(Path(folder) / "workspace", size.pictures)
            runs = measure(contenders(model, workspace, crops, options.device), options.rounds)
            report(name, size, runs, reading(workspace, crops))


if __name__ == "__main__":
    main()
