"""How good the world's models are, and what prep's choices do in it: python benchmarks/world.py NAME ... [--seeds 3].

\b
quality      Of the tagger: macro F1 over all tags, on renders of 2,000
             scenes that nothing was taught with. Of the painter: the
             tags of 200 such scenes are its prompts; printed is the
             share of prompted tags that the tagger finds in its
             pictures. The ceiling is the share found in renders of
             those scenes, the floor the share found in pictures that
             were painted for another prompt.
overfitting  Whether prep's verdicts on checkpoints agree with their samples.
others       One subject, trained in several ways; see experiments.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import experiments, overfitting

F1_TO_REACH, FOUND_TO_REACH = 0.90, 0.85
SCALE, STEPS = 4.0, 25  # of guidance, and of DDIM


def judge_tagger(folder: Path, cache: Path) -> dict:
    """Macro F1 on held-out renders, and the tags it is worst at."""
    from sample_data.mini import judge
    from sample_data.mini.scenes import HELD, scenes

    held = scenes(HELD, cache)
    table = judge.scores(held.pictures, folder)
    each = judge.f1(table, held.tags)
    best = judge.best_threshold(table, held.tags)
    return {
        "scenes": len(held.pictures),
        "macro_f1": judge.macro(each),
        "best_threshold": best,
        "macro_f1_at_best": judge.macro(judge.f1(table, held.tags, best)),
        "worst": dict(sorted(each.items(), key=lambda pair: pair[1])[:8]),
    }


def judge_painter(folder: Path, tagger: Path, cache: Path, count: int) -> dict:
    """The share of prompted tags found in painted pictures, between floor and ceiling."""
    import numpy as np

    from sample_data.mini import judge
    from sample_data.mini.painter import paintings
    from sample_data.mini.scenes import HELD, NAMES, scenes

    held = scenes(HELD[:count], cache)
    prompts = [", ".join(NAMES[at] for at in row.nonzero()[0] if at in judge.JUDGED) for row in held.tags]
    begin = time.monotonic()
    painted = list(paintings(folder, prompts, SCALE, STEPS))
    seconds = time.monotonic() - begin
    table = judge.scores(painted, tagger)
    by_tag = judge.shares_by_tag(table, held.tags)
    return {
        "prompts": count,
        "found": judge.share_found(table, held.tags),
        "ceiling": judge.share_found(judge.scores(held.pictures, tagger), held.tags),
        "floor": judge.share_found(np.roll(table, 1, 0), held.tags),
        "seconds_a_picture": seconds / count,
        "least_followed": dict(sorted(by_tag.items(), key=lambda pair: pair[1])[:12]),
    }


def quality_table(figures: dict) -> str:
    """The models' figures beside what they are to reach."""
    tagger, painter = figures["tagger"], figures["painter"]
    worst, least = (
        ", ".join(f"{name} {value:.2f}" for name, value in found.items())
        for found in (tagger["worst"], painter["least_followed"])
    )
    return f"""mini-tagger, macro F1 on {tagger["scenes"]:,} held-out renders
  at threshold 0.5    {tagger["macro_f1"]:.3f}; to reach: {F1_TO_REACH}
  at threshold {tagger["best_threshold"]:<7}{tagger["macro_f1_at_best"]:.3f}, the best
  worst: {worst}
mini-diffusion, share of prompted tags found, {painter["prompts"]} held-out prompts
  painted pictures    {painter["found"]:.3f}; to reach: {FOUND_TO_REACH}
  renders, the most   {painter["ceiling"]:.3f}
  other prompts'      {painter["floor"]:.3f}, by chance
  least followed: {least}"""


@contextlib.contextmanager
def place(keep: Path | None, name: str) -> Iterator[Path]:
    """An empty folder for one run, gone afterwards unless it is to be kept."""
    if keep:
        yield keep / name
    else:
        with tempfile.TemporaryDirectory(prefix="prep-world-") as folder:
            yield Path(folder) / name


@click.command(help=__doc__)
@click.argument(
    "names", nargs=-1, required=True, type=click.Choice(["quality", *experiments.EXPERIMENTS, "overfitting"])
)
@click.option("--seeds", default=3, help="How often each arm of an experiment is run.")
@click.option("--prompts", default=200, help="Prompts that the painter is judged by.")
@click.option("--tagger", type=click.Path(path_type=Path), help="Folder of another tagger, for quality.")
@click.option("--painter", type=click.Path(path_type=Path), help="Folder of another painter, for quality.")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of painted scenes.")
@click.option("--threads", default=1, help="Threads of the networks.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep the workspaces of experiments in this folder.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write every outcome there, too.")
def main(names: tuple[str, ...], threads: int, file: Path | None, **given: Any) -> None:
    import torch

    torch.set_num_threads(threads)
    told: dict[str, Any] = {}
    for name in names:
        found: Any = []
        told[name] = found
        if name == "quality":
            found = told[name] = quality(given)
            click.echo(quality_table(found))
        elif name == "overfitting":
            for seed in range(given["seeds"]):
                with place(given["keep"], f"{name}-{seed}") as home:
                    found.append(overfitting.run(seed, home))
                click.echo(f"  {name}, seed {seed}: {overfitting.regret(found[-1]):.1%} from the best", err=True)
                write(told, file)
            click.echo(f"\n{name}: {given['seeds']} seeds, medians\n{overfitting.table(found)}")
        else:
            for arm, seed in experiments.turns(name, given["seeds"]):
                with place(given["keep"], f"{name}-{arm.name.replace(' ', '-')}-{seed}") as home:
                    found.append(experiments.run(arm, seed, home))
                click.echo(f"  {name}, seed {seed}: {arm.name}: {found[-1].trained}", err=True)
                write(told, file)
            click.echo(f"\n{name}: {given['seeds']} seeds, medians and ranges\n{experiments.table(found)}")
        write(told, file)


def quality(given: dict[str, Any]) -> dict[str, Any]:
    """The figures of tagger and painter."""
    from sample_data.mini import judge
    from sample_data.mini.scenes import CACHE

    tagger, cache = given["tagger"] or judge.TAGGER, given["cache"] or CACHE
    return {
        "tagger": judge_tagger(tagger, cache),
        "painter": judge_painter(given["painter"] or judge.PAINTER, tagger, cache, given["prompts"]),
    }


def write(told: dict[str, Any], file: Path | None) -> None:
    """All outcomes so far, so that a run that is broken off has told something."""
    if file:
        file.write_text(json.dumps(told, indent=2, default=dataclasses.asdict))


if __name__ == "__main__":
    main()
