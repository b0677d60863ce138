"""prep generate against diffusers' own pipeline: python benchmarks/generate.py [--size 256] [--steps 6].

Both make the same image of a full-size Stable Diffusion 1.5 with random weights, in float32 on the processor, each in
a process of its own, interleaved over several rounds. Printed are the seconds from the start of the process to the
first denoising step and per step (median and range), the peak memory, and the largest difference of any pixel value.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PROMPT, NEGATIVE, SEED, SCALE = "a photo of a cat on a beach", "blurry", 7, 7.0


class Clock:
    """When the denoiser was called, in seconds since the process was started."""

    def __init__(self) -> None:
        self.began = float(os.environ["BEGAN"])
        self.steps: list[float] = []

    def tick(self) -> None:
        self.steps.append(time.time() - self.began)


def ours(folder: Path, size: int, steps: int, clock: Clock):
    os.environ["PREP_PROCESS"] = str(os.getpid())
    from pipeline.workspace import Workspace
    from training.models.base_model import find_base
    from training.models.light_imports import import_models, look_for_libraries
    from training.sampling.open_generator import open_generator
    from training.sampling.settings import ImageSettings

    values = {"negative": NEGATIVE, "size": f"{size}x{size}", "steps": steps, "cfg_scale": SCALE, "seed": SEED}
    wanted = ImageSettings.of(PROMPT, values | {"sampler": "Euler", "rng": "cpu"})
    home = Workspace(folder)
    look_for_libraries()
    generator = open_generator(find_base(str(folder), home), home)
    plans = generator.plan([wanted])
    import_models()
    return next(generator.generate(plans, 1, lambda done, total: clock.tick()))


def diffusers_own(folder: Path, size: int, steps: int, clock: Clock):
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="linspace")
    pipe.set_progress_bar_config(disable=True)

    def tick(*arguments):
        clock.tick()
        return arguments[3]

    return pipe(
        PROMPT,
        negative_prompt=NEGATIVE,
        width=size,
        height=size,
        num_inference_steps=steps,
        guidance_scale=SCALE,
        generator=torch.Generator().manual_seed(SEED),
        callback_on_step_end=tick,
    ).images[0]


WAYS: dict[str, Callable] = {"prep": ours, "diffusers": diffusers_own}


def measure(way: str, folder: Path, size: int, steps: int, target: Path) -> dict[str, float]:
    """One image in a new process."""
    words = [sys.executable, __file__, "--way", way, "--base", folder, "--size", size, "--steps", steps]
    done = subprocess.run(
        [*map(str, words), "--target", str(target)],
        env=os.environ | {"BEGAN": str(time.time())},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@click.command(help=__doc__)
@click.option("--base", type=click.Path(path_type=Path), help="A diffusers folder; none: random weights are made.")
@click.option("--size", default=256, help="Image size in pixels.  [default: 256]")
@click.option("--steps", default=6, help="Sampling steps.  [default: 6]")
@click.option("--rounds", default=2, help="Rounds; each runs both once.  [default: 2]")
@click.option("--way", type=click.Choice(list(WAYS)), hidden=True)
@click.option("--target", type=click.Path(path_type=Path), hidden=True)
def main(base: Path | None, size: int, steps: int, rounds: int, way: str | None, target: Path | None) -> None:
    if way and base and target:
        clock = Clock()
        WAYS[way](base, size, steps, clock).save(target)
        first, last = clock.steps[0], clock.steps[-1]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # of KiB on Linux
        seconds = (last - first) / max(len(clock.steps) - 1, 1)
        click.echo(json.dumps({"first": first, "step": seconds, "whole": time.time() - clock.began, "peak": peak}))
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(base.resolve() if base else random_model(Path(folder) / "sd15"), size, steps, rounds, Path(folder))


def random_model(folder: Path) -> Path:
    """A diffusers folder of Stable Diffusion 1.5's size with weights from a seed: 4 GB."""
    from training.models.architecture_config import ArchitectureConfig
    from training.models.mini import write_model

    folder.mkdir()
    click.echo("making the random Stable Diffusion 1.5 ...", err=True)
    write_model(folder, ArchitectureConfig())
    return folder


def compare(base: Path, size: int, steps: int, rounds: int, scratch: Path) -> None:
    import numpy as np
    from PIL import Image

    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            found[way].append(measure(way, base, size, steps, scratch / f"{way}.png"))
    click.echo(f"{size} x {size}, {steps} steps, {rounds} rounds, {os.cpu_count()} cores")
    titles = {"first": "to the first step, s", "step": "per step, s", "whole": "whole, s", "peak": "peak memory, GiB"}
    for key, title in titles.items():
        cells = []
        for way, runs in found.items():
            values = [run[key] for run in runs]
            cells.append(f"{way} {statistics.median(values):7.2f} ({min(values):.2f}-{max(values):.2f})")
        click.echo(f"{title:<22}{'   '.join(cells)}")
    images = [np.asarray(Image.open(scratch / f"{way}.png")).astype(int) for way in WAYS]
    click.echo(f"largest difference of a pixel value: {np.abs(images[0] - images[1]).max()}")


if __name__ == "__main__":
    main()
