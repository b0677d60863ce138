"""prep crop, augment, tag, merge, build, train: built from the fields of the stages."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import click

from pipeline.cli.output import outcome_json, outcome_line
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
from pipeline.run import dry_run_stage, run_stage
from pipeline.stage import DatasetStage, Options

_TAG_HELP = """Say what each image shows.

By one tagger or several side by side, each with its options; without a name, those of prep.toml.
A second setting of a tagger has a name of its own after a dash: blip blip-nucleus --sample.
"""


def command(name: str) -> click.Command:
    """The command of a stage."""
    return _tag() if name == "tag" else _stage(name)


def _stage(name: str) -> click.Command:
    def callback(quiet: bool, as_json: bool, engine: str = "local", workers: int | None = None, **values: Any) -> None:
        recipe = read_recipe(workspace_here())
        how = replace(settings(engine, workers, quiet), skip_checks=bool(values.pop("skip_checks", False)))
        if values.pop("dry_run", False):
            dry_run_here(stage_plan(name, recipe, only_given(values)), how, as_json)
            return
        update_stage_here(stage_plan(name, recipe, only_given(values)), how, as_json)

    cls = STAGES[name]
    how = output_options() if issubclass(cls, DatasetStage) else engine_options()  # a whole manifest has no engine
    how += [skip_checks_option(), dry_run_option()] if name == "train" else []
    if len(parts := sections(cls)) > 1:
        return SectionedCommand(name, {**parts, "Running": how}, callback, _doc(cls))
    return click.Command(name, params=[*click_options(cls), *how], callback=callback, help=_doc(cls))


class Taggers(SectionedGroup):
    """Taggers by their names; any may stand there again under a name of its own, such as blip-nucleus."""

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        cls = tagger_class(name)
        return super().get_command(ctx, name) or (_tagger(name, cls) if cls else None)


def _tag() -> click.Command:
    """A chain, so that `prep tag wd14 --model DIR basic` runs both, each with its own options."""

    def callback(**_: Any) -> None:
        pass  # the taggers' callbacks only say what was given; the result callback works

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
            raise PrepError(f"{twice} was named twice.", f"Give the second a name of its own, such as {twice}-2.")
        update_stage_here(tag_plan(recipe, dict(chosen)), settings(engine, workers, quiet), as_json)

    return group


def _tagger(name: str, cls: type[Options]) -> click.Command:
    def callback(**values: Any) -> tuple[str, dict[str, Any]]:
        return name, only_given(values)

    return click.Command(name, params=list(click_options(cls)), callback=callback, help=_doc(cls))


def update_stage_here(plan: StagePlan, how: RunSettings, as_json: bool) -> None:
    """Bring a stage of this workspace up to date and say what came of it."""
    if plan.name != "train":
        require_single_process(plan.name)
    workspace = workspace_here()
    with workspace.lock():
        outcome = run_stage(plan, workspace, read_recipe(workspace), how)
    print_result(outcome_line(outcome), outcome_json(outcome, workspace), as_json, how.quiet)


def dry_run_here(plan: StagePlan, how: RunSettings, as_json: bool) -> None:
    """Try a training of this workspace and say what the whole would take."""
    require_single_process("train --dry-run")
    workspace = workspace_here()
    with workspace.lock():
        found = dry_run_stage(plan, workspace, read_recipe(workspace), how)
    print_result("\n".join(found.lines()), asdict(found), as_json, how.quiet)


def _doc(cls: type[Options]) -> str:
    return (cls.__doc__ or "").strip()
