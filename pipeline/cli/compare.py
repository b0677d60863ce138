"""The command compare."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from pipeline.cli.compare_output import print_comparisons
from pipeline.cli.outdated import outdated_manifest, stale_json, warn_outdated
from pipeline.cli.run_options import print_result, workspace_here
from pipeline.registry import read_recipe, stage_plan
from pipeline.report.compare import TaggedManifests, compare_images, comparison_json, tsv_lines
from pipeline.report.compare_page import write_page
from pipeline.workspace import Workspace
from stages.merge import Merge
from stages.merging.thresholds import Thresholds

log = logging.getLogger(__name__)


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    metavar="X",
    help="Score from which a tag counts as predicted, 0 to 1.  [the thresholds of prep merge]",
)
@click.option(
    "--all", "all_taggers", is_flag=True, help="Include taggers of earlier runs, whose tags prep merge does not use."
)
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write an HTML page with the images.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line per image.")
def compare(
    names: tuple[str, ...], threshold: float | None, all_taggers: bool, html: Path | None, as_json: bool
) -> None:
    """Compare what several taggers predict.

    Compares the taggers of the last prep tag, which are those that prep merge uses. Shows the scores
    of every tagger, the tags that all, some or one of them predict, and the captions, for the images
    with these file names or ids, or for all images. Prints one line per tag when piped.
    """
    workspace = workspace_here()
    tagged = TaggedManifests.find(workspace, all_taggers)
    if tagged.unused:
        log.warning("Left out, as prep merge does not use it: %s. To include it: --all", ", ".join(tagged.unused))
    stale = outdated_manifest(workspace, tagged.main)
    warn_outdated(stale, workspace.relative(tagged.main.path))
    thresholds = merge_thresholds(workspace) if threshold is None else Thresholds.uniform(threshold)
    threshold_text = "the threshold of prep merge" if threshold is None else f"{threshold:g}"
    comparisons = compare_images(tagged, names, thresholds)
    if html is not None:
        count = write_page(html, comparisons, workspace, threshold_text)
        print_result(f"wrote {html}   {count:,} images", {"html": str(html), "images": count}, as_json)
    elif as_json:
        print_result("", stale_json(stale), True) if stale else None
        for comparison in comparisons:
            print_result("", comparison_json(comparison), True)
    elif sys.stdout.isatty():
        print_comparisons(comparisons, threshold_text)
    else:
        for comparison in comparisons:
            for line in tsv_lines(comparison):
                click.echo(line)


def merge_thresholds(workspace: Workspace) -> Thresholds:
    """The thresholds of `prep merge` with the recipe's options: each model's own, unless the recipe sets others."""
    plan = stage_plan("merge", read_recipe(workspace), {})
    return next(stage.tag_thresholds for stage in plan.stages if isinstance(stage, Merge))
