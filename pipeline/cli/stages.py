"""prep crop, augment, tag, merge, build, train: built from the fields of the stages."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import click

from pipeline.cli.output import outcome_json, outcome_line
from pipeline.cli.run_options import (
    Parted,
    Sections,
    engine_options,
    output_options,
    settings,
    tell,
    trial_option,
    unchecked_option,
    workspace_here,
)
from pipeline.errors import PrepError
from pipeline.options import click_options, given, sections
from pipeline.ranks import refuse_several
from pipeline.registry import STAGES, TAGGERS, read_recipe, run_one, stage_plan, tag_plan, tagger_class, try_one
from pipeline.run import Plan, Settings
from pipeline.stage import Options, Whole

_TAG_HELP = """Say what each picture shows.

By one tagger or several side by side, each with its options; without a name, those of prep.toml.
A second setting of a tagger has a name of its own after a dash: blip blip-nucleus --sample.
"""


def command(name: str) -> click.Command:
    """The command of a stage."""
    return _tag() if name == "tag" else _stage(name)


def _stage(name: str) -> click.Command:
    def callback(quiet: bool, as_json: bool, engine: str = "local", workers: int | None = None, **values: Any) -> None:
        recipe = read_recipe(workspace_here())
        how = replace(settings(engine, workers, quiet), unchecked=bool(values.pop("unchecked", False)))
        if values.pop("trial", False):
            try_here(stage_plan(name, recipe, given(values)), how, as_json)
            return
        bring_here(stage_plan(name, recipe, given(values)), how, as_json)

    cls = STAGES[name]
    how = output_options() if issubclass(cls, Whole) else engine_options()  # a whole manifest has no engine
    how += [unchecked_option(), trial_option()] if name == "train" else []
    if len(parts := sections(cls)) > 1:
        return Parted(name, {**parts, "Running": how}, callback, _doc(cls))
    return click.Command(name, params=[*click_options(cls), *how], callback=callback, help=_doc(cls))


class Taggers(Sections):
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
        bring_here(tag_plan(recipe, dict(chosen)), settings(engine, workers, quiet), as_json)

    return group


def _tagger(name: str, cls: type[Options]) -> click.Command:
    def callback(**values: Any) -> tuple[str, dict[str, Any]]:
        return name, given(values)

    return click.Command(name, params=list(click_options(cls)), callback=callback, help=_doc(cls))


def bring_here(plan: Plan, how: Settings, as_json: bool) -> None:
    """Bring a stage of this workspace up to date and say what came of it."""
    if plan.name != "train":
        refuse_several(plan.name)
    workspace = workspace_here()
    with workspace.lock():
        outcome = run_one(plan, workspace, read_recipe(workspace), how)
    tell(outcome_line(outcome), outcome_json(outcome, workspace), as_json, how.quiet)


def try_here(plan: Plan, how: Settings, as_json: bool) -> None:
    """Try a training of this workspace and say what the whole would take."""
    refuse_several("train --trial")
    workspace = workspace_here()
    with workspace.lock():
        found = try_one(plan, workspace, read_recipe(workspace), how)
    tell("\n".join(found.lines()), asdict(found), as_json, how.quiet)


def _doc(cls: type[Options]) -> str:
    return (cls.__doc__ or "").strip()
