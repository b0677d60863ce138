"""The command plan."""

from __future__ import annotations

import dataclasses

import click

from pipeline.cli.outdated import stale_json, warn_outdated
from pipeline.cli.plan_output import plan_lines
from pipeline.cli.run_options import print_result, workspace_here
from pipeline.commands.plan import make_plan, planned_stage
from pipeline.options import only_given
from pipeline.progress import Progress
from pipeline.registry import read_recipe, stage_plan
from pipeline.staleness import outdated
from stages.build import Build
from training.train import Train


@click.command()
@click.option("--batch-size", type=click.IntRange(1), metavar="N", help="Images per step.  [that of prep.toml]")
@click.option("--epochs", type=click.IntRange(1), metavar="N", help="Passes over the dataset.  [that of prep.toml]")
@click.option("--data", metavar="DIR", help="Plan for this folder in kohya's layout, not for the workspace's dataset.")
@click.option("--reg-data", metavar="DIR", help="Folder of regularization images for --data.")
@click.option(
    "--resolution", type=click.IntRange(64, 8192), metavar="N", help="Crop the images of --data to this resolution."
)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(
    batch_size: int | None,
    epochs: int | None,
    data: str | None,
    reg_data: str | None,
    resolution: int | None,
    as_json: bool,
) -> None:
    """Show what training will do, and usual settings for this dataset.

    Shows the images per epoch of each subject and class, the batches per image size, the number of steps, and usual
    steps, learning rates, numbers of vectors and balanced repeats for a dataset of this size. Before prep build has
    run, it plans for the dataset that build would write.
    """
    workspace = workspace_here(data or "")
    folders = {"data": data, "reg_data": reg_data, "resolution": resolution}
    asked = only_given({"batch_size": batch_size, "epochs": epochs, **folders})
    recipe = read_recipe(workspace)
    train, build = stage_plan("train", recipe, asked).stages[0], stage_plan("build", recipe, {}).stages[0]
    assert isinstance(train, Train) and isinstance(build, Build)
    stale = [] if data else outdated(workspace, recipe, planned_stage(workspace))
    warn_outdated(stale, f"manifests/{planned_stage(workspace)}.parquet")
    with Progress("plan") as progress:
        training_plan = make_plan(workspace, train, build, progress)
    print_result("\n".join(plan_lines(training_plan)), dataclasses.asdict(training_plan) | stale_json(stale), as_json)
