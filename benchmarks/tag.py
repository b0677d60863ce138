"""Speed of `prep tag` relative to the bare model: python benchmarks/tag.py [--rounds 5] [--model vit tiny blip].

Four interleaved contenders with the same weights:
  bare   the model in a loop on arrays that are ready in memory, in its library, with its fastest batch size
         (wd14: 4) or prep's own (blip: 16);
  prep   `prep tag` without the start of Python and model loading: read, prepare, infer, write the manifest;
  limit  prep's calls of the model on arrays that are ready: the difference to prep is the cost of reading;
  loop   what most tools do: open, prepare and infer one image after another.
The models have random weights: `vit` has the size of wd-vit-tagger-v3 (patches of 16, width 768, 12 layers,
10,861 tags), `tiny` a quarter of its width; `blip` has BLIP's architecture at half the width of BLIP base and
generates 20 tokens. The images are photographs in the sizes that `prep crop` gives at 512 pixels.

    python benchmarks/tag.py --memory 100000

measures instead the peak memory of `prep tag wd14` with that many records of about 100 tags each.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.tag_models import SIDE, SIZES, write_blip, write_mean_color, write_model

GOAL = 0.95  # of the bare model's images per second
IMAGES = {"vit": 16, "tiny": 128, "blip": 32}
SIZES_OF_CROPS = ((512, 512), (448, 576), (576, 448), (384, 640))
BARE_BATCH = 4  # on two cores faster than 2, 8 and 16
TOKENS = 20
PREP = [sys.executable, "-c", "from pipeline.cli.main import main; main()"]


def write_images(home: Path, count: int, records: int = 0, scale: int = 1) -> tuple[Any, Any]:
    """A workspace with `count` different images as after `prep crop`, and their manifest.

    More `records` than that share the images; image sides are divided by `scale`.
    """
    import numpy as np
    from PIL import Image, ImageOps

    from pipeline.history import HistoryStep
    from pipeline.imaging.image_file import save
    from pipeline.manifest import write_manifest
    from pipeline.record import Record
    from pipeline.workspace import Workspace
    from tests.shell import photographs

    workspace = Workspace(home)
    sources = [Image.open(path).convert("RGB") for path in photographs() if path.stat().st_size > 100_000]
    saved = []
    for n in range(count):
        size = tuple(side // scale for side in SIZES_OF_CROPS[n % 4])
        image = ImageOps.fit(sources[n % len(sources)], size, centering=(n / count, 1 - n / count))
        saved.append(save(workspace, np.asarray(image)))
    total = max(count, records)
    rows = (Record(f"{n:016x}", f"raw/{n}.jpg", "0" * 64, "x", "thing", "train") for n in range(total))
    cropped = ([replace(row, image=saved[n % count])] for n, row in enumerate(rows))
    return workspace, write_manifest(workspace.manifest("crop"), cropped, (HistoryStep("crop", 1, {}, ""),))


@dataclass(frozen=True)
class Bench:
    """A model that is loaded once, with the functions that call it."""

    tagger: Any
    predictor: Any  # of prep
    bare: Callable[[Any], Any]  # one batch
    batch: int
    one_by_one: Callable[[Any], Any]  # one PIL image, prepared and inferred as most tools do


def wd14(folder: Path, workspace: Any, device: str) -> Bench:
    import numpy as np
    import onnxruntime
    from PIL import Image

    from taggers.danbooru.onnx_session import CPU, CUDA
    from taggers.danbooru.wd14 import Wd14
    from taggers.device import cores, wants_gpu

    tagger = Wd14(model=str(folder), device=device)
    predictor = tagger.load(workspace)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    providers = [CUDA, CPU] if wants_gpu(device) else [CPU]
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=providers)

    def bare(batch: Any) -> Any:
        return session.run(["output"], {"input": batch})[0]

    def one_by_one(image: Any) -> Any:
        longest = max(image.size)
        square = Image.new("RGB", (longest, longest), (255, 255, 255))
        square.paste(image, ((longest - image.width) // 2, (longest - image.height) // 2))
        array = np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)[None, :, :, ::-1]
        return [n for n, score in enumerate(bare(np.ascontiguousarray(array))[0]) if float(score) > 0.35]

    return Bench(tagger, predictor, bare, predictor.batch_size if wants_gpu(device) else BARE_BATCH, one_by_one)


def blip(folder: Path, workspace: Any, device: str) -> Bench:
    import torch
    from transformers import AutoProcessor, BlipForConditionalGeneration

    from taggers.captioners.blip import Blip
    from taggers.device import torch_device

    tagger = Blip(model=str(folder), device=device, max_tokens=TOKENS)
    predictor = tagger.load(workspace)
    model = BlipForConditionalGeneration.from_pretrained(folder).to(torch_device(device)).eval()
    processor = AutoProcessor.from_pretrained(folder)

    def bare(batch: Any) -> Any:
        with torch.inference_mode():
            return model.generate(pixel_values=batch.to(model.device), max_new_tokens=TOKENS)

    def one_by_one(image: Any) -> Any:
        pixels = processor(images=image, return_tensors="pt")["pixel_values"]
        return processor.decode(bare(pixels)[0], skip_special_tokens=True)

    return Bench(tagger, predictor, bare, tagger.inference_batch_size, one_by_one)


def contenders(bench: Bench, workspace: Any, crops: Any) -> dict[str, Callable[[], int]]:
    """The functions to time; each tags all images once and returns their number."""
    import numpy as np
    import torch
    from PIL import Image

    from pipeline.engines import local
    from pipeline.execution import RunSettings
    from pipeline.imaging.image_file import load_rgb
    from pipeline.registry import StagePlan
    from pipeline.run import update_stage

    class Loaded(type(bench.tagger)):  # type: ignore[misc]
        def load(self, workspace):
            return bench.predictor

    loaded = Loaded(**{option.name: getattr(bench.tagger, option.name) for option in bench.tagger.options()})
    paths = [workspace.path(record.image.path) for record in crops.records() if record.kept]
    ready = [bench.predictor.prepare(load_rgb(path)) for path in paths]
    stack = np.stack if isinstance(ready[0], np.ndarray) else lambda ones: torch.stack([one.pixels for one in ones])
    batches = [stack(ready[n : n + bench.batch]) for n in range(0, len(ready), bench.batch)]
    chunk = bench.predictor.batch_size or bench.tagger.inference_batch_size

    def bare() -> int:
        return sum(len(bench.bare(batch)) for batch in batches)

    def limit() -> int:
        return sum(len(bench.predictor.infer(ready[n : n + chunk])) for n in range(0, len(ready), chunk))

    def prep() -> int:
        workspace.manifest("tag").unlink(missing_ok=True)
        done = update_stage(StagePlan("tag", (loaded,)), crops, workspace, RunSettings(local.run, 2, quiet=True))
        return done.manifest.counts.kept

    def loop() -> int:
        return len([bench.one_by_one(Image.open(path).convert("RGB")) for path in paths])

    return {"bare": bare, "prep": prep, "limit": limit, "loop": loop}


def reading(bench: Bench, workspace: Any, crops: Any) -> float:
    """CPU seconds to read and prepare one image in one thread."""
    from pipeline.imaging.image_file import load_rgb

    costs = []
    for record in crops.records():
        start = time.thread_time()
        bench.predictor.prepare(load_rgb(workspace.path(record.image.path)))
        costs.append(time.thread_time() - start)
    return statistics.median(costs)


@dataclass(frozen=True)
class Run:
    """One measurement of one contender."""

    rate: float  # images per second
    processor: float  # CPU seconds per image, all cores


def measure(works: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[Run]]:
    """All measurements, interleaved, after one round that is not measured."""
    runs: dict[str, list[Run]] = {name: [] for name in works}
    for round_number in range(-1, rounds):
        names = (
            list(works) if round_number % 2 else list(works)[::-1]
        )  # so that no contender always follows the same one
        for name in names:
            start, spent = time.perf_counter(), time.process_time()
            count = works[name]()
            if round_number >= 0:
                run = Run(count / (time.perf_counter() - start), (time.process_time() - spent) / count)
                runs[name].append(run)
                print(f"  round {round_number + 1} of {rounds}: {name}, {run.rate:.2f} per second", file=sys.stderr)
    return runs


def report(name: str, images: int, runs: dict[str, list[Run]], cost: float) -> None:
    """Print one model's table, and whether prep reaches its goal."""
    from taggers.device import cores

    size = SIZES[name]
    rate = {who: statistics.median(run.rate for run in found) for who, found in runs.items()}
    processor = {who: statistics.median(run.processor for run in found) for who, found in runs.items()}
    print(f"\n{name}: width {size.width}, {size.layers} layers; {images} images, {cores()} cores, medians\n")
    print(f"{'contender':12}{'per second':>10}{'spread':>9}{'of bare':>10}{'processor ms':>14}")
    for who, found in runs.items():
        spread = (max(run.rate for run in found) - min(run.rate for run in found)) / rate[who]
        print(f"{who:12}{rate[who]:10.2f}{spread:9.0%}{rate[who] / rate['bare']:10.2f}{1000 * processor[who]:14.1f}")
    # By round, because other load affects neighboring measurements alike.
    share = statistics.median(ours.rate / bare.rate for ours, bare in zip(runs["prep"], runs["bare"], strict=True))
    verdict = "reached    " if share >= GOAL else "not reached"
    print(f"\n{verdict}  prep at least {GOAL} times the bare model's speed, by round: {share:.3f}")
    print(f"Reading and preparing an image takes {1000 * cost:.1f} ms of a core.")


def memory(records: int) -> None:
    """Print the peak memory of `prep tag wd14` with this many records, and with a tenth."""
    for count in (records // 10, records):
        with tempfile.TemporaryDirectory(prefix="prep-tag-") as folder:
            home = Path(folder) / "workspace"
            model = write_mean_color(Path(folder) / "glance-tagger")
            _, crops = write_images(home, 64, count, scale=8)
            (home / "prep.toml").write_text('[[subject]]\ntoken = "x"\nclass = "thing"\nfolder = "raw"\n')
            start = time.perf_counter()
            command = [*PREP, "-C", str(home), "tag", "--quiet", "wd14", "--model", str(model)]
            peak = _peak(command)
            took = time.perf_counter() - start
            size = (home / "manifests" / "tag.parquet").stat().st_size
            print(
                f"{crops.counts.kept:,} records: {peak:,.0f} MB at most, {took:.0f} s, manifest of {size / 1e6:.0f} MB"
            )


def _peak(command: list[str]) -> float:
    """Peak memory of a process in megabytes, measured by a parent process that starts nothing else."""
    watch = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", watch, *command], check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout) * (1 if sys.platform == "darwin" else 1024) / 1e6  # kilobytes, but for macOS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--images", type=int, help=f"instead of {IMAGES}")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--memory", type=int, metavar="RECORDS", help="measure memory instead, with this many records")
    options = parser.parse_args()
    if options.memory:
        memory(options.memory)
        return
    for name in options.model:
        count = options.images or IMAGES[name]
        with tempfile.TemporaryDirectory(prefix="prep-tag-") as folder:
            os.environ["PREP_MODELS"] = folder
            model = (write_blip if name == "blip" else write_model)(Path(folder) / f"{name}-tagger", SIZES[name])
            workspace, crops = write_images(Path(folder) / "workspace", count)
            bench = (blip if name == "blip" else wd14)(model, workspace, options.device)
            runs = measure(contenders(bench, workspace, crops), options.rounds)
            report(name, count, runs, reading(bench, workspace, crops))


if __name__ == "__main__":
    main()
