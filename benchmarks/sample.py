"""What painting several pictures at once is worth: python benchmarks/sample.py [--base MODEL] [--size 512].

The same pictures are painted one, four and sixteen at a time, in turns; a line says what a picture takes, as medians of
the rounds with their range, and how far any value of any picture is from what it is when painted alone.
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
from sample_data.mini.judge import PAINTER

PROMPTS = ("1boy, forest, beard", "1girl, beach, smile", "1boy, forge, apron", "1girl, street, night")


@click.command(help=__doc__)
@click.option("--base", default=str(PAINTER), help="Base model: a pulled model's id, a folder or a file.")
@click.option("--size", default=64, help="Side of the pictures, in pixels.")
@click.option("--steps", default=12, help="Steps of the sampler.")
@click.option("--pictures", default=16, help="Pictures of a round.")
@click.option("--rounds", default=5, help="Rounds; in each all ways take their turn.")
@click.option("--at-once", multiple=True, default=(1, 4, 16), help="So many at a time; may be given several times.")
@click.option("--threads", default=1, help="Of the processor; small networks are fastest in one.")
def main(base: str, size: int, steps: int, pictures: int, rounds: int, at_once: tuple[int, ...], threads: int) -> None:
    import numpy as np
    import torch

    from training.models.base_model import find_base
    from training.models.families import recognise
    from training.models.loader import open_base
    from training.sampling.pipeline import Painting, load_painter, together

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        space = Workspace(Path(folder))
        checkpoint = open_base(find_base(base, space), space.cache)
        family = recognise(checkpoint)
        painter = load_painter(family, checkpoint)
        wanted = [
            Painting(PROMPTS[seed % len(PROMPTS)], width=size, height=size, steps=steps, scale=4.0, seed=seed)
            for seed in range(pictures)
        ]

        def paint(count: int) -> np.ndarray:
            groups = together(wanted, count)
            return np.stack([np.asarray(picture) for group in groups for picture in painter.paint(group)]).astype(int)

        alone = paint(1)
        off = {count: int(np.abs(paint(count) - alone).max()) for count in at_once}
        took: dict[int, list[float]] = {count: [] for count in at_once}
        for _ in range(rounds):
            for count in at_once:
                begin = time.perf_counter()
                paint(count)
                took[count].append((time.perf_counter() - begin) / pictures)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"processor, {threads} thread(s)"
    click.echo(f"{Path(base).name}, {size} x {size}, {steps} steps, {where}")
    first = statistics.median(took[at_once[0]])
    for count, seconds in took.items():
        middle = statistics.median(seconds)
        click.echo(
            f"{count:>4} at once {middle:8.3f} s a picture ({min(seconds):.3f}-{max(seconds):.3f}), "
            f"{first / middle:4.1f} times as fast, values off by at most {off[count]}"
        )


if __name__ == "__main__":
    main()
