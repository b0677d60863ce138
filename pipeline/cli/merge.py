"""prep merge: the stage, and its plan of which tags to absorb: suggest, accept, change and undo."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any, Literal

import click

from pipeline.cli import merge_output
from pipeline.cli.run_options import SectionedCommand, engine_options, print_result, settings, workspace_here
from pipeline.cli.stages import update_stage_here
from pipeline.errors import PrepError
from pipeline.journal import Journal
from pipeline.manifest import Manifest
from pipeline.options import click_options, only_given
from pipeline.ranks import is_main_process
from pipeline.registry import read_recipe, stage_plan
from pipeline.staleness import input_manifest
from pipeline.workspace import Workspace
from stages.merge import Merge
from stages.merging.effect import refuse_without_effect, unmatched_tags
from stages.merging.plan import (
    SUGGESTION,
    Action,
    MergePlan,
    Rules,
    read_plan,
    save_plan,
    split_owned,
    undo_plan,
    write_plan,
)
from stages.merging.suggest import SuggestOptions, suggest_plan
from stages.merging.tag_taxonomy import TagTaxonomy, read_taxonomy

PlanAction = Literal["suggest", "accept", "undo", ""]

_HELP = """Write the captions: the trigger, then the tags that are not absorbed.

\b
prep merge --suggest    show which tags belong to the subject, with the evidence; changes nothing
prep merge --accept     put the suggestion into effect, and merge; --absorb, --keep and --drop change it
prep merge --undo       restore the plan before the last change, and merge

An accepted plan is kept in decisions/plan.parquet and applies to every later merge. While there is one,
--absorb, --keep and --drop change it permanently; without one, --absorb applies to this run alone. Tags
listed under absorb in prep.toml are always absorbed, whatever the plan says.
"""


def command(name: str) -> click.Command:
    """The stage's command, with the options of the plan."""
    decisions = [
        click.Option(["--suggest"], is_flag=True, help="Show which tags to absorb, and why."),
        click.Option(["--accept"], is_flag=True, help="Put the last suggestion into effect."),
        click.Option(["--undo"], is_flag=True, help="Undo the last change of the plan; repeat the command for more."),
        click.Option(["--keep"], multiple=True, metavar="TAG", help="Tag of the plan to keep in the captions."),
        click.Option(["--drop"], multiple=True, metavar="TAG", help="Tag of the plan to leave out of the captions."),
    ]
    sections = {
        "Plan": decisions,
        "What --suggest suggests": click_options(SuggestOptions),
        "Captions": click_options(Merge),
        "Running": engine_options(),
    }
    return SectionedCommand(name, sections, _merge, _HELP)


def _merge(engine: str, workers: int | None, quiet: bool, as_json: bool, **values: Any) -> None:
    workspace, run_settings = workspace_here(), settings(engine, workers, quiet)
    action = _plan_action(values)
    suggest_options = only_given({option.name: values.pop(option.name) for option in SuggestOptions.options()})
    rules = _rules(values, action, workspace)
    if suggest_options and action != "suggest":
        flag = f"--{next(iter(suggest_options)).replace('_', '-')}"
        raise PrepError(f"{flag} works only with --suggest.", "Add --suggest.")
    recipe = read_recipe(workspace)
    plan = stage_plan("merge", recipe, only_given(values))
    (merge,) = plan.stages
    assert isinstance(merge, Merge)
    source = input_manifest(plan, workspace, recipe)
    if action == "suggest":
        _suggest(suggest_plan(SuggestOptions(**suggest_options), merge, source, workspace), workspace, as_json)
        return
    given: dict[str, Any] = {**only_given(values), **dict(rules.items())}
    refuse_without_effect(given, source, Journal.read(workspace))
    taxonomy = read_taxonomy(workspace.source(merge.taxonomy) if merge.taxonomy else None)
    with workspace.lock():
        lines = _change_plan(workspace, source, action, rules, taxonomy)
    if lines:
        print_result("\n".join(lines), {"plan": [line.removeprefix("plan").strip() for line in lines]}, as_json, quiet)
    update_stage_here(plan, run_settings, as_json)
    for line in unmatched_tags(only_given(values), source) if not quiet and is_main_process() else ():
        click.echo(line, err=True)


def _plan_action(values: dict[str, Any]) -> PlanAction:
    """The one of --suggest, --accept and --undo that was given, taken out of the options; empty for none."""
    actions: tuple[PlanAction, ...] = ("suggest", "accept", "undo")
    asked = [action for action in actions if values.pop(action)]
    if len(asked) > 1:
        raise PrepError(f"--{asked[0]} and --{asked[1]} exclude each other.", f"First: prep merge --{asked[0]}")
    return asked[0] if asked else ""


def _rules(values: dict[str, Any], action: PlanAction, workspace: Workspace) -> Rules:
    """The decisions about tags, taken out of the options; --absorb is one where a plan exists or is accepted."""
    rules: dict[Action, tuple[str, ...]] = {"keep": values.pop("keep"), "drop": values.pop("drop")}
    changes_plan = action == "accept" or (not action and read_plan(workspace) is not None)
    if changes_plan:
        rules["absorb"] = values.pop("absorb")
        values["absorb"] = ()
    rules = {name: split_owned(tags) for name, tags in rules.items() if tags}
    if rules and not changes_plan:
        flag = f"--{next(iter(rules))}"
        if action:
            raise PrepError(f"{flag} does not work with --{action}.", f"First: prep merge --{action}")
        raise PrepError(f"{flag} changes a plan, and there is none yet.", "First: prep merge --suggest, then --accept")
    return rules


def _change_plan(
    workspace: Workspace, source: Manifest, action: PlanAction, rules: Rules, taxonomy: TagTaxonomy
) -> list[str]:
    """Accept, undo or change the plan; lines that say what was done, none where it was not touched."""
    before = read_plan(workspace)
    if action == "undo":
        after = undo_plan(workspace)
        return [f"{'plan':<22}{merge_output.summary(after) if after else 'no plan'}; the last change is undone"]
    if action == "accept":
        after = merge_output.accept(workspace, source, rules, taxonomy)
    elif rules and before is not None:
        after = before.changed(rules, taxonomy)
        save_plan(workspace, after)
    else:
        return []
    lines = [f"{'plan':<22}{merge_output.summary(after)}" + ("" if after != before else "; unchanged")]
    lines += [f"{'':<22}{hint}"] if (hint := merge_output.undecided(after)) else []
    return [*lines, f"{'':<22}to undo: prep merge --undo"]


def _suggest(plan: MergePlan, workspace: Workspace, as_json: bool) -> None:
    with workspace.lock():
        write_plan(workspace, plan, SUGGESTION)
    if as_json:
        for row in plan.rows:
            print_result("", asdict(row), True)
    elif sys.stdout.isatty():
        from rich.console import Console

        console = Console(highlight=False)
        console.print(*merge_output.terminal(plan), sep="\n")
        console.print(f"{merge_output.summary(plan)}   next: prep merge --accept")
    else:
        for line in merge_output.lines(plan):
            click.echo(line)
