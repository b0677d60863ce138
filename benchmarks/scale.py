"""Cost per image: time of a repeated run with nothing changed, and peak memory of a first run.

    python benchmarks/scale.py [--images 10000] [--rounds 5]

Images are small, so that the bookkeeping is measured and not the pixels. Every round is a new process;
"beyond start-up" is its time minus that of `prep --version`.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PREP = [sys.executable, "-c", "from pipeline.cli.main import main; main()"]
RECIPE = """[[subject]]
token = "zwx"
class = "thing"
folder = "raw"
[crop]
resolution = 64
bucket_step = 32
focus = "center"
[merge]
[build]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="prep-scale-") as folder:
        home = Path(folder)
        make(home / "raw", options.images)
        (home / "prep.toml").write_text(RECIPE)
        first = timed("-C", home, "crop", "--quiet")
        others = [timed("-C", home, stage, "--quiet") for stage in ("merge", "build")]
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"{options.images:,} images: crop {first:.1f} s, merge {others[0]:.1f} s, build {others[1]:.1f} s")
        print(f"peak memory of the largest process: {peak:,.0f} MB")
        for what, command in {
            "crop again": ("-C", home, "crop", "--quiet"),
            "merge again": ("-C", home, "merge", "--quiet"),
            "build again": ("-C", home, "build", "--quiet"),
        }.items():
            pairs = [(timed(*command), timed("--version")) for _ in range(options.rounds)]
            beyond = sorted(run - start for run, start in pairs)
            median = statistics.median(beyond)
            print(f"{what:<12} {median:6.2f} s beyond start-up ({beyond[0]:.2f} to {beyond[-1]:.2f})")


def make(folder: Path, count: int) -> None:
    """`count` different JPEGs of 80 x 64 pixels."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(count):
        subfolder = folder / f"{number // 1000:03d}"
        subfolder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (8, 10, 3), np.uint8)).resize((80, 64)).save(
            subfolder / f"{number:06d}.jpg"
        )


def timed(*arguments: object) -> float:
    start = time.perf_counter()
    subprocess.run([*PREP, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
