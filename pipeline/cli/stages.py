"""The commands crop, augment, tag, build and train, made from the option fields of their stages."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import click

from pipeline.cli.adopt import adopt_before, discard_changes_option
from pipeline.cli.outdated import allow_stale_option
from pipeline.cli.output import result_json, result_line
from pipeline.cli.run_options import (
    SectionedCommand,
    SectionedGroup,
    dry_run_option,
    engine_options,
    output_options,
    print_result,
    settings,
    skip_checks_option,
    workspace_here,
)
from pipeline.errors import PrepError
from pipeline.execution import RunSettings
from pipeline.options import click_options, only_given, sections
from pipeline.ranks import require_single_process
from pipeline.registry import STAGES, TAGGERS, StagePlan, read_recipe, stage_plan, tag_plan, tagger_class
from pipeline.run import dry_run_stage, require_images, run_stage
from pipeline.stage import DatasetStage, Options
from pipeline.staleness import outdated_input, refuse_outdated
from pipeline.workspace import Workspace
from training.models.base_model import find_base
from training.train import Train

_TAG_HELP = """Tag and caption every image.

Runs one tagger or several, each followed by its options; without a name, those in prep.toml. To run
a tagger twice, add a suffix to the second name: prep tag blip blip-nucleus --sample
"""


def command(name: str) -> click.Command:
    """The command of a stage."""
    return _tag() if name == "tag" else _stage(name)


def _stage(name: str) -> click.Command:
    def callback(quiet: bool, as_json: bool, engine: str = "local", workers: int | None = None, **values: Any) -> None:
        workspace = workspace_here(values.get("data") or "")
        recipe = read_recipe(workspace)
        allow_stale, dry_run = bool(values.pop("allow_stale", False)), values.pop("dry_run", False)
        discard = bool(values.pop("discard_changes", False))
        run_settings = replace(
            settings(engine, workers, quiet),
            skip_checks=bool(values.pop("skip_checks", False)),
            discard_changes=discard,
        )
        plan = stage_plan(name, recipe, only_given(values))
        if name == "train":
            if dry_run:
                require_single_process("train --dry-run")
            _require_base(plan, workspace)
            refuse_outdated(outdated_input(workspace, recipe, plan), "The dataset", allow_stale)
        if name == "build" and adopt_before(workspace, discard):
            click.echo("next: prep run")
            return
        (dry_run_here if dry_run else update_stage_here)(plan, run_settings, as_json)

    cls = STAGES[name]
    running = output_options() if issubclass(cls, DatasetStage) else engine_options()  # a DatasetStage has no engine
    running += [skip_checks_option(), allow_stale_option(), dry_run_option()] if name == "train" else []
    running += [discard_changes_option()] if name == "build" else []
    if len(parts := sections(cls)) > 1:
        return SectionedCommand(name, {**parts, "Running": running}, callback, _doc(cls))
    return click.Command(name, params=[*click_options(cls), *running], callback=callback, help=_doc(cls))


class Taggers(SectionedGroup):
    """The taggers by name; a further instance of one has a suffix, such as blip-nucleus."""

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        cls = tagger_class(name)
        return super().get_command(ctx, name) or (_tagger(name, cls) if cls else None)


def _tag() -> click.Command:
    """A chained group: `prep tag wd14 --model DIR basic` runs both taggers, each with its own options."""

    def callback(**_: Any) -> None:
        pass  # the taggers' callbacks only return their options; the result callback runs them

    group = Taggers(
        "tag",
        chain=True,
        invoke_without_command=True,
        callback=callback,
        params=list(engine_options()),
        subcommand_metavar="[TAGGER [OPTIONS]]...",
        help=_TAG_HELP,
    )
    group.add("Taggers", *(_tagger(name, cls) for name, cls in TAGGERS.items()))

    @group.result_callback()
    def work(
        chosen: list[tuple[str, dict[str, Any]]], engine: str, workers: int | None, quiet: bool, as_json: bool
    ) -> None:
        recipe = read_recipe(workspace_here())
        if twice := next((name for n, (name, _) in enumerate(chosen) if name in dict(chosen[:n])), None):
            raise PrepError(f"The tagger {twice} is given twice.", f"Add a suffix to the second, such as {twice}-2.")
        update_stage_here(tag_plan(recipe, dict(chosen)), settings(engine, workers, quiet), as_json)

    return group


def _tagger(name: str, cls: type[Options]) -> click.Command:
    def callback(**values: Any) -> tuple[str, dict[str, Any]]:
        return name, only_given(values)

    return click.Command(name, params=list(click_options(cls)), callback=callback, help=_doc(cls))


def update_stage_here(plan: StagePlan, settings: RunSettings, as_json: bool) -> None:
    """Bring a stage of the current workspace up to date and print the result."""
    if plan.name != "train":
        require_single_process(plan.name)
    workspace = workspace_here(_data(plan))
    with workspace.lock():
        result = run_stage(plan, workspace, read_recipe(workspace), settings)
    print_result(result_line(result), result_json(result, workspace), as_json, settings.quiet)
    require_images(result)


def dry_run_here(plan: StagePlan, settings: RunSettings, as_json: bool) -> None:
    """Train for a few steps in the current workspace and print the estimate for the whole run."""
    require_single_process("train --dry-run")
    workspace = workspace_here(_data(plan))
    with workspace.lock():
        estimate = dry_run_stage(plan, workspace, read_recipe(workspace), settings)
    print_result("\n".join(estimate.lines()), asdict(estimate), as_json, settings.quiet)


def _require_base(plan: StagePlan, workspace: Workspace) -> None:
    """PrepError that names the base models, when none is given: before anything is read, or asked to be built."""
    train = plan.stages[0]
    if isinstance(train, Train) and not train.config.model.base:
        find_base("", workspace)


def _data(plan: StagePlan) -> str:
    """The folder that is trained on instead of the workspace's dataset; empty for none."""
    train = plan.stages[0]
    return train.config.dataset.data if isinstance(train, Train) else ""


def _doc(cls: type[Options]) -> str:
    return (cls.__doc__ or "").strip()
