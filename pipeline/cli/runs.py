"""prep runs: list the training runs, and delete what is not needed to use them."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator

import click

from pipeline.cli.run_options import SectionedGroup, print_result, workspace_here
from pipeline.commands.runs import Deletion, RunSummary, delete_all, list_runs, plan_deletions
from pipeline.errors import PrepError
from pipeline.models.store import format_bytes
from pipeline.tag_text import escape_control


@click.group(cls=SectionedGroup, invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print the runs as JSON lines.")
@click.pass_context
def runs(context: click.Context, as_json: bool) -> None:
    """List the training runs: their datasets, settings that differ, losses, verdicts and files.

    A run that begins again keeps the former one as NAME-1, NAME-2, ...; the highest number is the
    latest. Loss: the mean of the last tenth of the steps. Dataset: the beginning of its digest.
    """
    if context.invoked_subcommand:
        return
    found = list_runs(workspace_here())
    if as_json:
        for run in found:
            print_result("", dataclasses.asdict(run), True)
    else:
        click.echo("\n".join(_table(found)) if found else "No run yet. Make one: prep train")


@runs.command()
@click.argument("name", nargs=-1)
@click.option(
    "--unfinished", is_flag=True, help="Delete the states of unfinished runs, too: they then start at step 1."
)
@click.option("--yes", "-y", is_flag=True, help="Delete without asking.")
@click.option("--json", "as_json", is_flag=True, help="Print what is deleted as JSON lines; needs --yes.")
def prune(name: tuple[str, ...], unfinished: bool, yes: bool, as_json: bool) -> None:
    """Show, then delete, what is not needed to use results: states of finished runs, and caches.

    States are what a run is resumed from. Runs given by NAME are deleted as a whole, with their results.
    """
    workspace = workspace_here()
    if as_json and not yes:
        raise PrepError(
            "prep runs prune --json deletes only with --yes.",
            "Add --yes, or leave --json out: prep then shows what it would delete, and asks.",
        )
    with workspace.lock():
        planned = plan_deletions(workspace, name, unfinished)
        for deletion in planned:
            path = workspace.relative(deletion.path)
            result = {"path": path, "what": deletion.what, "bytes": deletion.size}
            print_result(
                f"{format_bytes(deletion.size):>8}  {escape_control(path)}  ({deletion.what})", result, as_json
            )
        if not planned:
            click.echo("Nothing to delete.", err=True)
        elif yes or _confirmed(planned):
            delete_all(planned)
            click.echo(f"Deleted {format_bytes(_total(planned))}.", err=True)


def _confirmed(planned: list[Deletion]) -> bool:
    """Ask; PrepError where nobody can answer."""
    if not sys.stdin.isatty():
        raise PrepError("Nothing was deleted.", "To delete without being asked: prep runs prune --yes")
    return click.confirm(f"Delete {format_bytes(_total(planned))}?", err=True)


def _total(planned: list[Deletion]) -> int:
    return sum(deletion.size for deletion in planned)


def _table(found: list[RunSummary]) -> Iterator[str]:
    """A line for each run, its settings and files below it."""
    width = max(len("run"), *(len(run.name) for run in found))
    yield f"{'run':<{width}}  {'dataset':<8}  {'steps':>7}  {'loss':>7}  {'states':>8}  verdict"
    for run in found:
        loss = "" if run.loss is None else f"{run.loss:.4f}"
        state = run.verdict or ("not validated" if run.finished else "not finished")
        yield (
            f"{escape_control(run.name):<{width}}  {run.dataset[:8]:<8}  {run.steps:>7,}  {loss:>7}  "
            f"{format_bytes(run.states) if run.states else '-':>8}  {state}"
        )
        if run.settings:
            yield f"    {', '.join(f'{name} {escape_control(value)}' for name, value in sorted(run.settings.items()))}"
        names = list(run.files)
        if names:
            more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
            yield f"    {escape_control(names[0])}{more}, {format_bytes(sum(run.files.values()))}"


runs.add("Commands", prune)
