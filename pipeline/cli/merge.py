"""prep merge: the stage, and the plan of what its captions absorb: suggested, accepted, changed, taken back."""

from __future__ import annotations

import sys
from typing import Any

import click

from pipeline.cli import merge_output as plans
from pipeline.cli.run_options import SectionedCommand, engine_options, print_result, settings, workspace_here
from pipeline.cli.stages import update_stage_here
from pipeline.errors import PrepError
from pipeline.manifest import Manifest
from pipeline.options import click_options, only_given
from pipeline.registry import input_manifest, read_recipe, stage_plan
from pipeline.workspace import Workspace
from stages.merge import Merge
from stages.merging.plan import SUGGESTION, Action, MergePlan, Rules, read_plan, save_plan, undo_plan, write_plan
from stages.merging.suggest import SuggestOptions, suggest_plan
from stages.merging.tag_taxonomy import TagTaxonomy, read_taxonomy

_HELP = """Write the captions: the trigger, then the tags that stay.

\b
prep merge --suggest    which tags belong to the subject, with the evidence; changes nothing
prep merge --accept     let the suggestion count, and merge; --absorb, --keep, --drop on top
prep merge --undo       the plan as it was before the last change, and merge

An accepted plan lies in decisions/plan.parquet and counts in every merge from then on. While there is
one, --absorb, --keep and --drop change it for good; without one, --absorb counts for this run alone.
What prep.toml lists in absorb is always absorbed, whatever the plan says.
"""


def command(name: str) -> click.Command:
    """The stage's command, with the options of the plan."""
    decisions = [
        click.Option(["--suggest"], is_flag=True, help="Show which tags to absorb, and why."),
        click.Option(["--accept"], is_flag=True, help="Let the last suggestion count from now on."),
        click.Option(["--undo"], is_flag=True, help="Take back the last change of the plan; again: the one before."),
        click.Option(["--keep"], multiple=True, metavar="TAG", help="Tag of the plan that stays in the captions."),
        click.Option(["--drop"], multiple=True, metavar="TAG", help="Tag of the plan to leave out, not absorbed."),
    ]
    sections = {
        "The plan": decisions,
        "What --suggest takes for the subject's own": click_options(SuggestOptions),
        "Captions": click_options(Merge),
        "Running": engine_options(),
    }
    return SectionedCommand(name, sections, _merge, _HELP)


def _merge(engine: str, workers: int | None, quiet: bool, as_json: bool, **values: Any) -> None:
    workspace, how = workspace_here(), settings(engine, workers, quiet)
    wanted = [name for name in ("suggest", "accept", "undo") if values.pop(name)]
    told = only_given({option.name: values.pop(option.name) for option in SuggestOptions.options()})
    rules = _rules(values, wanted, workspace)
    if len(wanted) > 1:
        raise PrepError(f"--{wanted[0]} and --{wanted[1]} do not go together.", "Give one, then the other.")
    if told and wanted != ["suggest"]:
        raise PrepError(f"--{next(iter(told)).replace('_', '-')} is about suggestions.", "Give it with --suggest.")
    plan = stage_plan("merge", read_recipe(workspace), only_given(values))
    (merge,) = plan.stages
    assert isinstance(merge, Merge)
    source = input_manifest(plan, workspace)
    if wanted == ["suggest"]:
        _suggest(suggest_plan(SuggestOptions(**told), merge, source, workspace), workspace, as_json)
        return
    kinds = read_taxonomy(workspace.source(merge.taxonomy) if merge.taxonomy else None)
    with workspace.lock():
        said = _changed(workspace, source, wanted, rules, kinds)
    if said:
        print_result("\n".join(said), {"plan": [line.removeprefix("plan").strip() for line in said]}, as_json, quiet)
    update_stage_here(plan, how, as_json)


def _rules(values: dict[str, Any], wanted: list[str], workspace: Workspace) -> Rules:
    """The decisions about tags; --absorb is one where there is a plan, or one is accepted now."""
    rules: dict[Action, tuple[str, ...]] = {"keep": values.pop("keep"), "drop": values.pop("drop")}
    planned = wanted == ["accept"] or (not wanted and read_plan(workspace) is not None)
    if planned:
        rules["absorb"] = values.pop("absorb")
        values["absorb"] = ()
    rules = {action: tags for action, tags in rules.items() if tags}
    if rules and not planned:
        option = f"--{next(iter(rules))}"
        if wanted:
            raise PrepError(f"{option} does not go with --{wanted[0]}.", "Give one, then the other.")
        raise PrepError(
            f"{option} changes a plan, and there is none yet.", "First: prep merge --suggest, then --accept"
        )
    return rules


def _changed(workspace: Workspace, source: Manifest, wanted: list[str], rules: Rules, kinds: TagTaxonomy) -> list[str]:
    """Accept, take back or change the plan; what to tell about it, nothing where it was not touched."""
    before = read_plan(workspace)
    if wanted == ["undo"]:
        after = undo_plan(workspace)
        return [f"{'plan':<22}{plans.summary(after) if after else 'none any more'}; the last change is taken back"]
    if wanted == ["accept"]:
        after = plans.accept(workspace, source, rules, kinds)
    elif rules and before is not None:
        after = before.changed(rules, kinds)
        save_plan(workspace, after)
    else:
        return []
    lines = [f"{'plan':<22}{plans.summary(after)}" + ("" if after != before else "; as it was")]
    lines += [f"{'':<22}{found}"] if (found := plans.undecided(after)) else []
    return [*lines, f"{'':<22}back: prep merge --undo"]


def _suggest(plan: MergePlan, workspace: Workspace, as_json: bool) -> None:
    with workspace.lock():
        write_plan(workspace, plan, SUGGESTION)
    if as_json:
        for row in plan.rows:
            print_result("", plans.plain_row(row), True)
    elif sys.stdout.isatty():
        from rich.console import Console

        console = Console(highlight=False)
        console.print(*plans.terminal(plan), sep="\n")
        console.print(f"{plans.summary(plan)}   next: prep merge --accept")
    else:
        for line in plans.lines(plan):
            click.echo(line)
