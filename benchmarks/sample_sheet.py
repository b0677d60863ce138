"""Samples of the arms of benchmarks/world.py side by side: a row for the base and for each arm, a column a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.experiments import CLASS, PER_KIND, SUBJECT, read_samples
from benchmarks.sample_scores import prompts

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN = 4  # prompts of each kind, the first


def draw_samples(runs: dict[str, Path], side: int = 96) -> Image:
    """One image of the last samples of runs, below those of the base; `runs` are their folders by arm."""
    from PIL import Image

    from training.sampling.contact_sheet import ContactSheet

    asked = prompts(SUBJECT, CLASS, PER_KIND)
    kinds = [prompt.measures for prompt in asked]
    columns = [kinds.index(kind) + at for kind in dict.fromkeys(kinds) for at in range(SHOWN)]
    shown = {name: read_samples(run) for name, run in runs.items()}
    base = [steps[0] for steps in shown.values() if 0 in steps][:1]
    rows = {"the base": [base[0][at] for at in columns]} if base else {}
    rows |= {name: [steps[max(steps)][at] for at in columns] for name, steps in shown.items()}
    images = [
        [Image.open(path).resize((side, side), Image.Resampling.BICUBIC) for path in row] for row in rows.values()
    ]
    return ContactSheet([asked[at].text for at in columns], list(rows), [list(row) for row in images]).draw(side)
