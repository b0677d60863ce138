"""prep plan."""

from __future__ import annotations

import dataclasses

import click

from pipeline.cli.run_options import print_result, workspace_here
from pipeline.commands import plan as plan_command
from pipeline.options import only_given
from pipeline.progress import Progress
from pipeline.registry import read_recipe, stage_plan
from stages.build import Build
from training.train import Train


@click.command()
@click.option("--batch-size", type=click.IntRange(1), metavar="N", help="Images per step.  [prep.toml's]")
@click.option("--epochs", type=click.IntRange(1), metavar="N", help="Times through the data set.  [prep.toml's]")
@click.option("--data", metavar="DIR", help="Plan for this folder of kohya's layout instead of the workspace's set.")
@click.option("--reg-data", metavar="DIR", help="Folder of regularization images for --data.")
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON.")
def plan(batch_size: int | None, epochs: int | None, data: str | None, reg_data: str | None, as_json: bool) -> None:
    """Say what training will do, and what is usual.

    How often an epoch shows each subject and its class, which sizes fill their batches, how many steps that makes,
    and what is usual for a set like this: steps, rates, vectors, repeats that balance the subjects. Before prep build
    has run it plans for what build would lay out.
    """
    workspace = workspace_here()
    asked = only_given({"batch_size": batch_size, "epochs": epochs, "data": data, "reg_data": reg_data})
    recipe = read_recipe(workspace)
    train, build = stage_plan("train", recipe, asked).stages[0], stage_plan("build", recipe, {}).stages[0]
    assert isinstance(train, Train) and isinstance(build, Build)
    with Progress("plan") as progress:
        found = plan_command.make_plan(workspace, train, build, progress)
    print_result("\n".join(plan_command.lines(found)), dataclasses.asdict(found), as_json)
