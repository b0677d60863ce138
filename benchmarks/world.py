"""How good the world's models are, and what prep's choices do in it: python benchmarks/world.py NAME ... [--seeds 3].

\b
quality      Of the tagger: macro F1 over all tags, on renders of 2,000
             scenes that nothing was taught with. Of the painter: the
             tags of 200 such scenes are its prompts; printed is the
             share of prompted tags that the tagger finds in its
             images. The ceiling is the share found in renders of
             those scenes, the floor the share found in images that
             were painted for another prompt.
overfitting  Whether prep's verdicts on checkpoints agree with their samples.
others       One subject, trained in several ways; see experiments.py.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import experiments, overfitting
from benchmarks.training_variants import EXPERIMENTS
from benchmarks.sample_sheet import draw_samples
from benchmarks.experiment_runner import ResultsFile, Job, run_all, list_jobs
from taggers.device import cores

F1_TO_REACH, FOUND_TO_REACH = 0.90, 0.85
SCALE, STEPS = 4.0, 25  # of guidance, and of DDIM


def score_tagger(folder: Path, cache: Path) -> dict:
    """Macro F1 on held-out renders, and the tags it is worst at."""
    from sample_data.mini import scoring
    from sample_data.mini.scenes import HELD_OUT_SCENES, load_scenes

    held = load_scenes(HELD_OUT_SCENES, cache)
    table = scoring.tag_scores(held.images, folder)
    each = scoring.f1_by_tag(table, held.tags)
    best = scoring.best_threshold(table, held.tags)
    return {
        "scenes": len(held.images),
        "macro_f1": scoring.macro_f1(each),
        "best_threshold": best,
        "macro_f1_at_best": scoring.macro_f1(scoring.f1_by_tag(table, held.tags, best)),
        "worst": dict(sorted(each.items(), key=lambda pair: pair[1])[:8]),
    }


def score_diffusion(folder: Path, tagger: Path, cache: Path, count: int) -> dict:
    """The share of prompted tags found in painted images, between floor and ceiling."""
    import numpy as np

    from sample_data.mini import scoring
    from sample_data.mini.diffusion_model import generate_images
    from sample_data.mini.scenes import HELD_OUT_SCENES, NAMES, load_scenes

    held = load_scenes(HELD_OUT_SCENES[:count], cache)
    prompts = [", ".join(NAMES[at] for at in row.nonzero()[0] if at in scoring.SCORED_TAGS) for row in held.tags]
    begin = time.monotonic()
    painted = list(generate_images(folder, prompts, SCALE, STEPS))
    seconds = time.monotonic() - begin
    table = scoring.tag_scores(painted, tagger)
    by_tag = scoring.recall_by_tag(table, held.tags)
    return {
        "prompts": count,
        "found": scoring.recall(table, held.tags),
        "ceiling": scoring.recall(scoring.tag_scores(held.images, tagger), held.tags),
        "floor": scoring.recall(np.roll(table, 1, 0), held.tags),
        "seconds_a_image": seconds / count,
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
  painted images    {painter["found"]:.3f}; to reach: {FOUND_TO_REACH}
  renders, the most   {painter["ceiling"]:.3f}
  other prompts'      {painter["floor"]:.3f}, by chance
  least followed: {least}"""


@click.command(help=__doc__)
@click.argument("names", nargs=-1, required=True, type=click.Choice(["quality", *EXPERIMENTS, "overfitting"]))
@click.option("--seeds", default=3, help="How often each arm of an experiment is run.")
@click.option("--jobs", default=cores(), help="Arms run at a time, each in one thread.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write every outcome there; none is run again.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep the workspaces of experiments in this folder.")
@click.option("--image", type=click.Path(path_type=Path), help="Draw samples of the first seed there; needs --keep.")
@click.option("--prompts", default=200, help="Prompts that the painter is judged by.")
@click.option("--tagger", type=click.Path(path_type=Path), help="Folder of another tagger, for quality.")
@click.option("--painter", type=click.Path(path_type=Path), help="Folder of another painter, for quality.")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of painted scenes, for quality.")
def main(names: tuple[str, ...], seeds: int, jobs: int, file: Path | None, keep: Path | None, **rest: Any) -> None:
    image: Path | None = rest.pop("image")
    if image and not keep:
        raise click.UsageError("--image shows samples that only --keep keeps.")
    if "quality" in names:
        click.echo(quality_table(quality(rest)))
    found = ResultsFile(file)
    run_all(list_jobs([name for name in names if name != "quality"], seeds), jobs, keep, found)
    for name in names:
        if name == "overfitting":
            click.echo(f"\n{name}: {seeds} seeds, medians\n" + overfitting.table(found.of(name, seeds)))
        elif name != "quality":
            outcomes = [one for arm in EXPERIMENTS[name] for one in found.of(arm.name, seeds)]
            click.echo(f"\n{name}: {seeds} seeds, medians and ranges\n" + experiments.table(outcomes))
    if image and keep:
        arms = [arm for name in names for arm in EXPERIMENTS.get(name, ())]
        runs = {arm.name: keep / Job(arm, 0).folder / "workspace" / "runs" / "run" for arm in arms}
        draw_samples(runs).save(image, quality=90)


def quality(given: dict[str, Any]) -> dict[str, Any]:
    """The figures of tagger and painter."""
    import torch

    from sample_data.mini import scoring
    from sample_data.mini.scenes import CACHE

    torch.set_num_threads(1)
    tagger, cache = given["tagger"] or scoring.TAGGER, given["cache"] or CACHE
    return {
        "tagger": score_tagger(tagger, cache),
        "painter": score_diffusion(given["painter"] or scoring.DIFFUSION, tagger, cache, given["prompts"]),
    }


if __name__ == "__main__":
    main()
