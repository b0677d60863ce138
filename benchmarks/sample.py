"""What painting several images at once is worth: python benchmarks/sample.py [--base MODEL] [--size 512].

The same images are painted one, four and sixteen at a time, in turns; a line says what an image takes, as medians of
the rounds with their range, and how far any value of any image is from what it is when painted alone.
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
@click.option("--base", default=str(DIFFUSION), help="Base model: a pulled model's id, a folder or a file.")
@click.option("--size", default=64, help="Side of the images, in pixels.")
@click.option("--steps", default=12, help="Steps of the sampler.")
@click.option("--images", default=16, help="Images of a round.")
@click.option("--rounds", default=5, help="Rounds; in each all ways take their turn.")
@click.option("--batch-size", multiple=True, default=(1, 4, 16), help="So many at a time; may be given several times.")
@click.option("--threads", default=1, help="Of the processor; small networks are fastest in one.")
def main(base: str, size: int, steps: int, images: int, rounds: int, at_once: tuple[int, ...], threads: int) -> None:
    import numpy as np
    import torch

    from training.models.base_model import find_base
    from training.models.families import detect_family
    from training.models.loader import open_base_model
    from training.sampling.image_generator import SampleRequest, batched, load_generator

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        space = Workspace(Path(folder))
        checkpoint = open_base_model(find_base(base, space), space.cache)
        family = detect_family(checkpoint)
        painter = load_generator(family, checkpoint)
        wanted = [
            SampleRequest(
                PROMPTS[seed % len(PROMPTS)], width=size, height=size, steps=steps, guidance_scale=4.0, seed=seed
            )
            for seed in range(images)
        ]

        def paint(count: int) -> np.ndarray:
            groups = batched(wanted, count)
            return np.stack([np.asarray(image) for group in groups for image in painter.generate(group)]).astype(int)

        alone = paint(1)
        off = {count: int(np.abs(paint(count) - alone).max()) for count in at_once}
        took: dict[int, list[float]] = {count: [] for count in at_once}
        for _ in range(rounds):
            for count in at_once:
                begin = time.perf_counter()
                paint(count)
                took[count].append((time.perf_counter() - begin) / images)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"processor, {threads} thread(s)"
    click.echo(f"{Path(base).name}, {size} x {size}, {steps} steps, {where}")
    first = statistics.median(took[at_once[0]])
    for count, seconds in took.items():
        middle = statistics.median(seconds)
        click.echo(
            f"{count:>4} at once {middle:8.3f} s an image ({min(seconds):.3f}-{max(seconds):.3f}), "
            f"{first / middle:4.1f} times as fast, values off by at most {off[count]}"
        )


if __name__ == "__main__":
    main()
