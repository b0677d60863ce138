"""The command adopt, and the question that build and run ask about changes made by hand."""

from __future__ import annotations

import sys

import click

from pipeline.cli.run_options import print_result, workspace_here
from pipeline.commands.adopt import Adoption, adopt_dataset, keep_as_is, plan_adoption, write_decisions
from pipeline.errors import PrepError
from pipeline.journal import Journal
from pipeline.manifest import read_if_valid
from pipeline.orphans import image_sources
from pipeline.progress import Progress
from pipeline.registry import read_recipe
from pipeline.workspace import Workspace

_NEXT = "next: prep run    back: prep edit --undo, once for each decision"


@click.command()
@click.option(
    "--keep",
    is_flag=True,
    help="Keep what prep has: images and caption files that were changed in your own folders count as seen.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be taken over, without changing anything.")
@click.option("--json", "as_json", is_flag=True, help="Print the decisions as JSON lines.")
def adopt(keep: bool, dry_run: bool, as_json: bool) -> None:
    """Take over what was changed by hand outside of prep.

    In dataset/: captions that were rewritten, and images that were deleted, become decisions in
    decisions/edits.jsonl, so that they survive the next build; images that were added are named with the
    command that adds them. In your own folders: decisions about an image that was changed since go to the
    image of that name, and changed caption files of an imported dataset are read again.
    """
    workspace = workspace_here()
    with Progress("adopt") as progress:
        found = (keep_as_is if keep else plan_adoption)(workspace, read_recipe(workspace), progress)
    if not dry_run:
        write_decisions(workspace, found)
    for decision in found.decisions if as_json else ():
        plain = {"id": decision.id, "name": decision.name, "edit": decision.edit.what, "text": decision.edit.text}
        print_result("", plain, True)
    if not as_json:
        click.echo("\n".join(_lines(found)) or "Nothing was changed by hand.")
        if found.decisions:
            click.echo("nothing was written" if dry_run else _NEXT)


def adopt_before(workspace: Workspace, discard: bool) -> bool:
    """On a terminal, ask whether to take over what was changed in dataset/; whether it was taken over."""
    if discard or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    manifest = read_if_valid(workspace.manifest("sources"))
    sources = image_sources(manifest) if manifest is not None else {}
    found = adopt_dataset(workspace, read_recipe(workspace), Journal.read(workspace), sources)
    if not found.decisions:
        return False
    click.echo("\n".join(("dataset/ was changed by hand:", *_lines(found))))
    if not click.confirm("Take these changes over?", default=True):
        raise PrepError("Nothing was taken over, and nothing was built.", "To build over them: --discard-changes")
    write_decisions(workspace, found)
    return True


def discard_changes_option() -> click.Option:
    return click.Option(
        ["--discard-changes"],
        is_flag=True,
        help="Build over what was changed by hand in dataset/, which is kept as dataset.backup-N.",
    )


def _lines(found: Adoption) -> list[str]:
    return [*found.taken, *(f"not taken over: {line}" for line in found.left)]
