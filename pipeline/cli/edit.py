"""The command edit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from pipeline.cli.outdated import outdated_tags, warn_outdated
from pipeline.cli.run_options import print_result, workspace_here
from pipeline.commands.edit import EditPreview, EditSelection, affected_rows, changes, owners, select_rows
from pipeline.edits import PLACES, Edit, Place, split_edit
from pipeline.errors import PrepError
from pipeline.review.state import Review
from pipeline.tag_text import escape_control

_MAX_SHOWN = 20  # images of a dry run shown to people; --json has all
_NEXT = "next: prep merge    back: prep edit --undo"
_SEVERAL: dict[str, str] = {
    "add": "Add a tag or a sentence to the captions; commas separate several.",
    "remove": "Remove a tag or a sentence from the captions; commas separate several.",
    "flag": "Mark the images with a flag, such as unsure.",
    "unflag": "Remove a flag.",
}
_ONCE = {
    "drop": "Leave the images out of the dataset.",
    "restore": "Put dropped images back into the dataset.",
    "reset": "Discard all caption edits of the images.",
}


def _options(command: click.Command) -> click.Command:
    """One option per kind of edit."""
    for what, help in reversed(_SEVERAL.items()):
        command.params.insert(0, click.Option([f"--{what}"], multiple=True, metavar="TEXT", help=help))
    command.params.insert(2, click.Option(["--set", "caption"], metavar="TEXT", help="Replace the whole caption."))
    swap = click.Option(
        ["--replace"],
        nargs=2,
        multiple=True,
        metavar="OLD NEW",
        help="Replace one tag by another, or by several with commas.",
    )
    command.params.insert(2, swap)
    for what, help in _ONCE.items():
        command.params.insert(6, click.Option([f"--{what}"], is_flag=True, help=help))
    return command


@_options
@click.command()
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@click.option("--filter", "text", default="", metavar="TEXT", help="Select the images that match a filter.")
@click.option("--all", "everything", is_flag=True, help="Select all images.")
@click.option("--at", type=click.Choice(PLACES[1:]), help="Where --add puts its tags.  [with the tags]")
@click.option("--undo", is_flag=True, help="Undo the last edit; repeat to undo earlier ones.")
@click.option("--redo", is_flag=True, help="Redo the edit that was undone last.")
@click.option("--dry-run", is_flag=True, help="Show captions before and after, without changing anything.")
@click.option("--json", "as_json", is_flag=True, help="Print the changes as JSON lines.")
def edit(images: tuple[str, ...], text: str, everything: bool, dry_run: bool, as_json: bool, **what: Any) -> None:
    """Edit captions and drop images from scripts.

    IMAGE is a file name, an id, or a pattern such as 'IMG_*'. A filter consists of tags, AND, OR,
    NOT, parentheses, score:beard<0.5, subject:smith, class:man, role:reg, flag:unsure,
    caption:"text", name:*.jpg, tagger:wd14, id:ID, dropped, edited and unreadable (a caption
    file that could not be read); a tag of several words needs quotes where it is not known,
    --filter '"blue shirt" NOT hat'. Edits are stored in decisions/edits.jsonl, are kept when images
    are tagged again, and enter the captions with prep merge.
    """
    undo, redo = what.pop("undo"), what.pop("redo")
    edits = _edits(**what)
    if undo + redo + bool(edits) != 1 or (dry_run and not edits):
        raise PrepError("edit needs an edit to make.", "For example --add hat or --undo; prep edit --help lists all.")
    review = Review.open(workspace_here())
    warn_outdated(outdated_tags(review.workspace), "What was tagged")
    if not edits:
        _go_back(review, redo, as_json)
        return
    rows = select_rows(review.table, EditSelection(images, text, everything))
    ids = owners(review, rows)
    found = list(changes(review, rows, review.edits, review.edits.supposing(ids, edits)))
    if not dry_run:
        review.edits.append(review.workspace, ids, edits)
    _print_changes(found, as_json, dry_run)
    if not as_json:
        words, verb = "; ".join(map(str, edits)), "would change" if dry_run else "changed"
        click.echo(f"{len(found):,} of {len(rows):,} images {verb}: {escape_control(words)}")
        click.echo("nothing was written" if dry_run else _NEXT)


def _go_back(review: Review, again: bool, as_json: bool) -> None:
    """Undo or redo, and print what that changed."""
    before = review.edits.copy()
    entry = (review.edits.redo if again else review.edits.undo)(review.workspace)
    if entry is None:
        raise PrepError(f"There is nothing to {'redo' if again else 'undo'}.", "prep edit --help lists the edits.")
    found = list(changes(review, affected_rows(review, entry.ids), before, review.edits))
    _print_changes(found, as_json, False)
    if not as_json:
        words = "; ".join(map(str, entry.edits))
        click.echo(f"{len(found):,} images changed: {'redid' if again else 'undid'} {escape_control(words)}")
        click.echo(_NEXT)


def _edits(**what: Any) -> list[Edit]:
    """The edits in a fixed order, since the order of options on a command line has no meaning."""
    if not (what["caption"] or "").isprintable():
        raise PrepError(f"set: {what['caption']!r} is not a single line of text.", "Trainers read one line only.")
    at: Place = what["at"] or ""
    if at and not what["add"]:
        raise PrepError("--at says where --add puts its tags.", f"For example: prep edit --all --add hat --at {at}")
    edits = [Edit("reset")] if what["reset"] else []
    edits += [] if what["caption"] is None else [Edit("set", what["caption"])]
    edits += [Edit("remove", text) for text in what["remove"]]
    edits += [Edit("replace", old, new) for old, new in what["replace"]]
    edits += [Edit("add", text, at=at) for text in what["add"]]
    edits += [Edit("unflag", text) for text in what["unflag"]] + [Edit("flag", text) for text in what["flag"]]
    edits += [Edit("restore")] if what["restore"] else []
    edits += [Edit("drop")] if what["drop"] else []
    return [one for edit in edits for one in split_edit(edit)]


def _print_changes(found: Iterable[EditPreview], as_json: bool, dry_run: bool) -> None:
    """Each image that changes: as JSON, or before and after for a dry run."""
    for number, change in enumerate(found):
        plain: dict[str, Any] = {"id": change.record.id, "source": change.record.source, "before": change.before}
        plain |= {"after": change.after, "notes": list(change.notes)}
        if as_json:
            print_result("", plain, True)
        elif dry_run and number < _MAX_SHOWN:
            click.echo("\n".join(_lines(change)))
        elif dry_run and number == _MAX_SHOWN:
            click.echo("and more; --json lists all")


def _lines(change: EditPreview) -> list[str]:
    lines = [f"{change.record.id:<20} {escape_control(change.record.source)}"]
    if change.before != change.after:
        lines += [
            f"  - {escape_control(change.before) or '(nothing)'}",
            f"  + {escape_control(change.after) or '(nothing)'}",
        ]
    return lines + [f"  {note}" for note in change.notes]
