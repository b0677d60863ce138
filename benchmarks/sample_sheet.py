"""A contact sheet of samples: a row for the base model and for each variant, a column per prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.experiments import CLASS, PER_KIND, SUBJECT, read_samples
from benchmarks.sample_scores import prompts

if TYPE_CHECKING:
    from PIL.Image import Image

PER_SCORE = 4  # columns for each score


def draw_samples(runs: dict[str, Path], side: int = 96) -> Image:
    """The last samples of runs, below those of the base model; `runs` maps variants to run folders."""
    from PIL import Image

    from training.sampling.contact_sheet import ContactSheet

    sample_prompts = prompts(SUBJECT, CLASS, PER_KIND)
    kinds = [prompt.measures for prompt in sample_prompts]
    columns = [kinds.index(kind) + at for kind in dict.fromkeys(kinds) for at in range(PER_SCORE)]
    by_run = {name: read_samples(run) for name, run in runs.items()}
    base = [steps[0] for steps in by_run.values() if 0 in steps][:1]
    rows = {"base model": [base[0][at] for at in columns]} if base else {}
    rows |= {name: [steps[max(steps)][at] for at in columns] for name, steps in by_run.items()}
    images = [
        [Image.open(path).resize((side, side), Image.Resampling.BICUBIC) for path in row] for row in rows.values()
    ]
    return ContactSheet([sample_prompts[at].text for at in columns], list(rows), [list(row) for row in images]).draw(
        side
    )
