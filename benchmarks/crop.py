"""Speed of `prep crop` compared with other tools: python benchmarks/crop.py [--images 200] [--rounds 3].

All contenders process the same images in interleaved rounds, so that other load affects all of them.
prep's time includes all its bookkeeping: content hashes, pixel and perceptual hashes, and the manifest.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

Size = tuple[int, int]
LOWEST_PSNR = 45.0  # dB, for every image
# Goals by resolution: speedup over each contender; for the limit, at most this many times its time.
GOALS = {
    1024: {
        "loop, 2 processes": 7.0,
        "kohya, 1 process": 10.0,
        "img2dataset, 2 processes": 5.0,
        "limit, 2 processes": 1.5,
    },
    512: {
        "loop, 2 processes": 4.5,
        "kohya, 1 process": 6.0,
        "img2dataset, 2 processes": 2.7,
        "limit, 2 processes": 1.5,
    },
}


@dataclass(frozen=True)
class Task:
    """One image to crop: source, target and size."""

    source: str
    target: str
    size: Size


def loop(task: Task) -> None:
    """The usual Pillow loop."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(Image.open(task.source)).convert("RGB")
    ImageOps.fit(image, task.size, Image.Resampling.LANCZOS).save(task.target)


def kohya(task: Task) -> None:
    """sd-scripts' resize_images_to_resolution.py with --save_as_png, with its swapped sides corrected.

    Pillow decodes, OpenCV reduces by area average to the largest allowed area, the sides are cropped
    to a multiple of 64, Pillow saves.
    """
    import cv2
    import numpy as np
    from PIL import Image

    pixels = np.array(Image.open(task.source).convert("RGB"))
    height, width, _ = pixels.shape
    shrink = math.sqrt(min(1.0, task.size[0] * task.size[1] / (width * height)))
    if shrink < 1:
        pixels = cv2.resize(pixels, (int(width * shrink), int(height * shrink)), interpolation=cv2.INTER_AREA)
    height, width = (side // 64 * 64 for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    Image.fromarray(pixels[top : top + height, left : left + width]).save(task.target)


def img2dataset(task: Task) -> None:
    """img2dataset's resizer with center_crop and PNG, reimplemented: the same bytes as its release 1.47.0.

    OpenCV decodes, scales the shorter side by area average (Lanczos to enlarge), crops the center
    square, and encodes at level 6.
    """
    import cv2
    import numpy as np

    cv2.setNumThreads(1)
    pixels = cv2.imdecode(np.fromfile(task.source, np.uint8), cv2.IMREAD_UNCHANGED)
    side = round(math.sqrt(task.size[0] * task.size[1]) / 64) * 64
    height, width = pixels.shape[:2]
    scale = side / min(height, width)
    kernel = cv2.INTER_AREA if scale < 1 else cv2.INTER_LANCZOS4
    pixels = cv2.resize(
        pixels, (max(side, round(width * scale)), max(side, round(height * scale))), interpolation=kernel
    )
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    square = pixels[top : top + side, left : left + side]
    Path(task.target).write_bytes(cv2.imencode(".png", square, [cv2.IMWRITE_PNG_COMPRESSION, 6])[1].tobytes())


def limit(task: Task) -> None:
    """The lower bound for full decodes: the fastest decoders and encoder, and nothing else."""
    import cv2
    import numpy as np
    import pyvips

    from pipeline.imaging.png import encode_png

    if task.source.endswith(".webp"):
        pixels = cv2.imdecode(np.fromfile(task.source, np.uint8), cv2.IMREAD_COLOR)
    else:
        pixels = pyvips.Image.new_from_file(task.source, access="sequential").numpy()
    width, height = task.size
    Path(task.target).write_bytes(encode_png(np.ascontiguousarray(pixels[:height, :width])))


def prep(tasks: list[Task], folder: Path, resolution: int, focus: str) -> None:
    """`prep crop` without the start of Python: scan, crop on two cores, write the manifest."""
    from pipeline.engines import local
    from pipeline.execution import RunSettings
    from pipeline.recipe import Recipe, SubjectTable
    from pipeline.registry import StagePlan
    from pipeline.run import find_sources, update_stage
    from pipeline.workspace import Workspace
    from stages.crop import Crop

    workspace = Workspace(folder)
    sources = os.path.relpath(Path(tasks[0].source).parent, folder)
    settings = RunSettings(local.run, WORKERS, quiet=True)
    manifest, _ = find_sources(workspace, Recipe((SubjectTable("x", "thing", sources),), (), {}), settings)
    stage = Crop(resolution=resolution, focus=focus, allow_upscale=True)
    update_stage(StagePlan("crop", (stage,)), manifest, workspace, settings)


WORKERS = 2
FUNCTIONS: dict[str, Callable[[Task], None]] = {
    "loop": loop,
    "kohya": kohya,
    "img2dataset": img2dataset,
    "limit": limit,
}
CONTENDERS: dict[str, tuple[str, int, str]] = {  # name: function or 'prep', workers, focus
    "loop, 1 process": ("loop", 1, ""),
    "loop, 2 processes": ("loop", 2, ""),
    "kohya, 1 process": ("kohya", 1, ""),
    "img2dataset, 2 processes": ("img2dataset", 2, ""),
    "limit, 2 processes": ("limit", 2, ""),
    "prep, 2 cores, center": ("prep", 2, "center"),
    "prep, 2 cores, saliency": ("prep", 2, "saliency"),
    "prep, 2 cores, face": ("prep", 2, "face"),
}
MEASURED = "prep, 2 cores, center"  # the same task as the others, which all crop at the center


def run_one(order: dict) -> dict:
    """Run one contender on the corpus after a warm-up; returns its seconds, CPU seconds and peak memory."""
    function, workers, focus = CONTENDERS[order["contender"]]
    folder = Path(order["folder"])
    tasks = [Task(source, str(folder / f"{k:03d}.png"), tuple(size)) for k, (source, size) in enumerate(order["tasks"])]
    if function == "prep":
        warm = folder / "warm"
        (warm / "few").mkdir(parents=True)
        prep([Task(shutil.copy(tasks[0].source, warm / "few"), "", tasks[0].size)], warm, order["resolution"], focus)
        return _timed(lambda: prep(tasks, folder, order["resolution"], focus), lambda: [_usage(0)])
    work = FUNCTIONS[function]
    if workers == 1:
        work(tasks[0])
        return _timed(lambda: [work(task) for task in tasks], lambda: [_usage(0)])
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(work, tasks[: 2 * workers]))
        return _timed(
            lambda: list(pool.map(work, tasks, chunksize=4)), lambda: list(set(pool.map(_usage, [0.01] * 4 * workers)))
        )


def _timed(work: Callable[[], object], usage: Callable[[], list[tuple[int, float, float]]]) -> dict:
    before = {pid: spent for pid, spent, _ in usage()}
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    after = {pid: (spent, peak) for pid, spent, peak in usage()}
    processor = sum(spent - before.get(pid, 0.0) for pid, (spent, _) in after.items())
    return {"seconds": seconds, "cpu_seconds": processor, "peak": sum(peak for _, peak in after.values())}


def _usage(wait: float) -> tuple[int, float, float]:
    """This process's id, CPU seconds and peak memory in MB."""
    time.sleep(wait)  # so that each worker of a pool gets one of these
    return os.getpid(), round(time.process_time(), 2), _peak()


def _peak() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) // 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def fidelity(order: dict) -> dict:
    """PSNR in dB of every crop against a full decode and Pillow's Lanczos, by prep's manifest."""
    from pipeline.manifest import Manifest
    from pipeline.workspace import Workspace

    workspace = Workspace(Path(order["folder"]))
    records = [record for record in Manifest.read(workspace.manifest("crop")).records() if record.kept]
    with ThreadPoolExecutor(WORKERS) as pool:
        return {"psnr": sorted(pool.map(functools.partial(_psnr, workspace), records))}


def _psnr(workspace, record) -> float:
    import numpy as np
    from PIL import Image, ImageOps

    source = ImageOps.exif_transpose(Image.open(workspace.source(record.source)).convert("RGB"))
    size = (record.crop.width, record.crop.height)
    exact = np.asarray(source.resize(size, Image.Resampling.LANCZOS, record.crop.box), np.float32)
    ours = np.asarray(Image.open(workspace.path(record.image.path)), np.float32)
    return 10 * math.log10(255**2 / max(1e-9, float(((ours - exact) ** 2).mean())))


def plan(paths: list[Path], resolution: int) -> list[tuple[str, Size]]:
    """Every image with the size that prep crops it to, so that all contenders produce the same sizes."""
    from pipeline.imaging.bucket import nearest_bucket
    from pipeline.imaging.image_file import upright_size
    from stages.crop import Crop

    sizes = Crop(resolution=resolution).sizes()
    return [(str(path), nearest_bucket(*upright_size(path.read_bytes()), sizes, math.inf)) for path in paths]


def child(what: str, order: dict) -> dict:
    """Run one contender, or the PSNR measurement, in a new Python process."""
    command = [sys.executable, __file__, "--child", what]
    done = subprocess.run(
        command, input=json.dumps(order), capture_output=True, text=True, env=dict(os.environ, OMP_NUM_THREADS="1")
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measure(paths: list[Path], resolution: int, rounds: int, names: list[str]) -> dict[str, list[dict]]:
    """The results of every contender by round, interleaved; prep's first has its PSNR."""
    tasks = plan(paths, resolution)
    results: dict[str, list[dict]] = {name: [] for name in names}
    for round_number in range(rounds):
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                order = {"contender": name, "folder": folder, "tasks": tasks, "resolution": resolution}
                results[name].append(child("run", order))
                if name == MEASURED and round_number == 0:
                    results[name][0] |= child("fidelity", order)
            print(
                f"  round {round_number + 1} of {rounds}: {name}, {results[name][-1]['seconds']:.1f} s", file=sys.stderr
            )
    return results


def report(results: dict[str, list[dict]], resolution: int, count: int) -> None:
    """Print the table of one resolution, and which goals are reached."""
    seconds, processor = (
        {name: statistics.median(one[what] for one in found) for name, found in results.items()}
        for what in ("seconds", "cpu_seconds")
    )
    ours, psnr = seconds[MEASURED], results[MEASURED][0]["psnr"]
    print(f"\n{count} images to {resolution}-pixel buckets, PNG; medians; ratios to prep\n")
    headers = ("contender", "seconds", "spread", "per second", "prep's", "CPU s", "prep's", "peak MB")
    print("{:28}{:>9}{:>9}{:>10}{:>9}{:>11}{:>9}{:>9}".format(*headers))
    for name, found in results.items():
        times = [one["seconds"] for one in found]
        spread = (max(times) - min(times)) / seconds[name]
        line = f"{name:28}{seconds[name]:9.2f}{spread:9.0%}{count / seconds[name]:10.1f}"
        line += f"{seconds[name] / ours:8.2f}x{processor[name]:11.2f}{processor[name] / processor[MEASURED]:8.2f}x"
        print(f"{line}{max(one['peak'] for one in found):9.0f}")
    print("\nPSNR against a full decode and Pillow's Lanczos:", end=" ")
    print(f"least {psnr[0]:.1f} dB, median {statistics.median(psnr):.1f} dB")
    print(f"{_verdict(psnr[0] >= LOWEST_PSNR)}  every image at least {LOWEST_PSNR:g} dB: {psnr[0]:.1f}")
    for name, target in GOALS[resolution].items():
        if name not in seconds:
            continue
        ratio, spent = seconds[name] / ours, processor[name] / CONTENDERS[name][1] / (processor[MEASURED] / WORKERS)
        if name.startswith("limit"):
            goal, reached, ratio, spent = (
                f"at most {target:g} times the limit",
                ratio >= 1 / target,
                1 / ratio,
                1 / spent,
            )
        else:
            goal, reached = f"at least {target:g} times as fast as {name}", ratio >= target
        print(f"{_verdict(reached)}  {goal}: {ratio:.2f} (by CPU time: {spent:.2f})")


def _verdict(reached: bool) -> str:
    return "reached    " if reached else "not reached"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--resolution", type=int, nargs="+", default=[1024, 512], choices=[1024, 512])
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), help="contenders besides prep and the limit")
    parser.add_argument("--folder", type=Path, help="folder to keep the corpus in  [default: a temporary folder]")
    parser.add_argument("--child", choices=("run", "fidelity"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps({"run": run_one, "fidelity": fidelity}[options.child](json.load(sys.stdin))))
        return
    from benchmarks.photo_corpus import make_corpus

    target = {MEASURED, "limit, 2 processes", *(options.only or CONTENDERS)}
    with tempfile.TemporaryDirectory() as temporary:
        paths = make_corpus((options.folder or Path(temporary)) / f"{options.images}-images", options.images)
        for resolution in options.resolution:
            names = [name for name in CONTENDERS if name in target]
            report(measure(paths, resolution, options.rounds, names), resolution, len(paths))


if __name__ == "__main__":
    main()
