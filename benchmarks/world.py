"""Quality of the small models, and effects of training choices: python benchmarks/world.py NAME ... [--seeds 3].

\b
quality      mini-tagger: macro F1 over all tags on 2,000 held-out
             renders. mini-diffusion: share of the prompted tags that
             the tagger finds in generated images; the prompts are the
             tags of 200 held-out scenes. Upper bound: renders of those
             scenes. Chance level: images generated for other prompts.
overfitting  Agreement of prep's verdicts on checkpoints with samples.
others       One subject, trained in several variants; see experiments.py.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import experiments, overfitting
from benchmarks.experiment_runner import Job, ResultsFile, list_jobs, run_all
from benchmarks.sample_sheet import draw_samples
from benchmarks.training_variants import EXPERIMENTS
from sample_data.mini.scenes import CACHE
from sample_data.mini.scoring import DIFFUSION, TAGGER
from taggers.device import cores

F1_GOAL, RECALL_GOAL = 0.90, 0.85
GUIDANCE_SCALE, STEPS = 4.0, 25  # DDIM


def score_tagger(folder: Path, cache: Path) -> dict[str, Any]:
    """Macro F1 on held-out renders, and the tags with the lowest F1."""
    from sample_data.mini import scoring
    from sample_data.mini.scenes import HELD_OUT_SCENES, load_scenes

    held_out = load_scenes(HELD_OUT_SCENES, cache)
    table = scoring.tag_scores(held_out.images, folder)
    by_tag = scoring.f1_by_tag(table, held_out.tags)
    best = scoring.best_threshold(table, held_out.tags)
    return {
        "scenes": len(held_out.images),
        "macro_f1": scoring.macro_f1(by_tag),
        "best_threshold": best,
        "macro_f1_at_best": scoring.macro_f1(scoring.f1_by_tag(table, held_out.tags, best)),
        "lowest_f1": dict(sorted(by_tag.items(), key=lambda pair: pair[1])[:8]),
    }


def score_diffusion(folder: Path, tagger: Path, cache: Path, count: int) -> dict[str, Any]:
    """The share of prompted tags found in generated images, with upper bound and chance level."""
    import numpy as np

    from sample_data.mini import scoring
    from sample_data.mini.diffusion_model import generate_images
    from sample_data.mini.scenes import HELD_OUT_SCENES, NAMES, load_scenes

    held_out = load_scenes(HELD_OUT_SCENES[:count], cache)
    prompts = [", ".join(NAMES[at] for at in row.nonzero()[0] if at in scoring.SCORED_TAGS) for row in held_out.tags]
    start = time.monotonic()
    images = list(generate_images(folder, prompts, GUIDANCE_SCALE, STEPS))
    seconds = time.monotonic() - start
    table = scoring.tag_scores(images, tagger)
    by_tag = scoring.recall_by_tag(table, held_out.tags)
    return {
        "prompts": count,
        "recall": scoring.recall(table, held_out.tags),
        "upper_bound": scoring.recall(scoring.tag_scores(held_out.images, tagger), held_out.tags),
        "chance": scoring.recall(np.roll(table, 1, 0), held_out.tags),
        "seconds_per_image": seconds / count,
        "lowest_recall": dict(sorted(by_tag.items(), key=lambda pair: pair[1])[:12]),
    }


def quality_table(tagger: dict[str, Any], diffusion: dict[str, Any]) -> str:
    """The figures of both models, with their goals."""
    low_f1, low_recall = (
        ", ".join(f"{name} {value:.2f}" for name, value in by_tag.items())
        for by_tag in (tagger["lowest_f1"], diffusion["lowest_recall"])
    )
    return f"""mini-tagger, macro F1 on {tagger["scenes"]:,} held-out renders
  at threshold 0.5    {tagger["macro_f1"]:.3f}; goal: {F1_GOAL}
  at threshold {tagger["best_threshold"]:<7}{tagger["macro_f1_at_best"]:.3f}, the best
  lowest: {low_f1}
mini-diffusion, share of prompted tags found, {diffusion["prompts"]} held-out prompts
  generated images    {diffusion["recall"]:.3f}; goal: {RECALL_GOAL}
  renders             {diffusion["upper_bound"]:.3f}, the upper bound
  other prompts       {diffusion["chance"]:.3f}, by chance
  lowest: {low_recall}"""


@click.command(help=__doc__)
@click.argument("names", nargs=-1, required=True, type=click.Choice(["quality", *EXPERIMENTS, "overfitting"]))
@click.option("--seeds", default=3, help="Runs of each variant.  [default: 3]")
@click.option("--jobs", default=cores(), help="Variants run in parallel, each with one thread.  [default: all cores]")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Results file, written and reused.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep the workspaces of experiments in this folder.")
@click.option("--image", type=click.Path(path_type=Path), help="Write a contact sheet of the first seed; needs --keep.")
@click.option("--prompts", default=200, help="Prompts for the quality of mini-diffusion.  [default: 200]")
@click.option("--tagger", default=TAGGER, type=click.Path(path_type=Path), help="Tagger folder, for quality.")
@click.option("--model", default=DIFFUSION, type=click.Path(path_type=Path), help="Diffusion model, for quality.")
@click.option("--cache", default=CACHE, type=click.Path(path_type=Path), help="Folder of rendered scenes, for quality.")
def main(
    names: tuple[str, ...],
    seeds: int,
    jobs: int,
    file: Path | None,
    keep: Path | None,
    image: Path | None,
    prompts: int,
    tagger: Path,
    model: Path,
    cache: Path,
) -> None:
    if image and not keep:
        raise click.UsageError("--image needs the samples that --keep keeps.")
    if "quality" in names:
        import torch

        torch.set_num_threads(1)
        click.echo(quality_table(score_tagger(tagger, cache), score_diffusion(model, tagger, cache, prompts)))
    results = ResultsFile(file)
    run_all(list_jobs([name for name in names if name != "quality"], seeds), jobs, keep, results)
    for name in names:
        if name == "overfitting":
            click.echo(f"\n{name}: {seeds} seeds, medians\n" + overfitting.table(results.of(name, seeds)))
        elif name != "quality":
            of_variants = [result for variant in EXPERIMENTS[name] for result in results.of(variant.name, seeds)]
            click.echo(f"\n{name}: {seeds} seeds, medians and ranges\n" + experiments.table(of_variants))
    if image and keep:
        variants = [variant for name in names for variant in EXPERIMENTS.get(name, ())]
        runs = {v.name: keep / Job(v, 0).folder / "workspace" / "runs" / "run" for v in variants}
        draw_samples(runs).save(image, quality=90)


if __name__ == "__main__":
    main()
