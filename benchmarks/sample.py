"""Speed of batched sampling: python benchmarks/sample.py [--base MODEL] [--size 512].

The same images are generated in batches of one, four and sixteen, interleaved over several rounds. Printed are the
seconds per image (median and range over rounds), and the largest difference of any pixel value from batch size 1.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.workspace import Workspace
from sample_data.mini.scoring import DIFFUSION

PROMPTS = ("1boy, forest, beard", "1girl, beach, smile", "1boy, forge, apron", "1girl, street, night")


@click.command(help=__doc__)
@click.option("--base", default=str(DIFFUSION), help="Base model: hub id, folder or file.")
@click.option("--size", default=64, help="Image size in pixels.  [default: 64]")
@click.option("--steps", default=12, help="Sampling steps.  [default: 12]")
@click.option("--images", default=16, help="Images per round.  [default: 16]")
@click.option("--rounds", default=5, help="Rounds; each runs every batch size once.  [default: 5]")
@click.option(
    "--batch-size",
    multiple=True,
    default=(1, 4, 16),
    help="Batch size; may be given several times.  [default: 1, 4, 16]",
)
@click.option("--threads", default=1, help="CPU threads; small networks are fastest with one.  [default: 1]")
def main(base: str, size: int, steps: int, images: int, rounds: int, batch_size: tuple[int, ...], threads: int) -> None:
    import numpy as np
    import torch

    from training.models.base_model import find_base
    from training.sampling.open_generator import open_generator
    from training.sampling.settings import ImageSettings

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        generator = open_generator(find_base(base, workspace), workspace)
        values = {"size": f"{size}x{size}", "steps": steps, "cfg_scale": 4.0}
        wanted = [ImageSettings.of(PROMPTS[seed % len(PROMPTS)], values | {"seed": seed}) for seed in range(images)]

        def generate(count: int) -> np.ndarray:
            made = generator.generate(generator.plan(wanted), count, lambda done, total: None)
            return np.stack([np.asarray(image) for image in made]).astype(int)

        reference = generate(1)
        difference = {count: int(np.abs(generate(count) - reference).max()) for count in batch_size}
        seconds_by_size: dict[int, list[float]] = {count: [] for count in batch_size}
        for _ in range(rounds):
            for count in batch_size:
                start = time.perf_counter()
                generate(count)
                seconds_by_size[count].append((time.perf_counter() - start) / images)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"processor, {threads} thread(s)"
    click.echo(f"{Path(base).name}, {size} x {size}, {steps} steps, {where}")
    first = statistics.median(seconds_by_size[batch_size[0]])
    for count, seconds in seconds_by_size.items():
        median = statistics.median(seconds)
        click.echo(
            f"{count:>4} per batch {median:8.3f} s per image ({min(seconds):.3f}-{max(seconds):.3f}), "
            f"{first / median:4.1f} times as fast, largest difference {difference[count]}"
        )


if __name__ == "__main__":
    main()
