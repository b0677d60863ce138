"""prep edit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from pipeline.cli.run_options import print_result, workspace_here
from pipeline.commands.edit import EditPreview, EditSelection, affected_rows, changes, owners, select_rows
from pipeline.edits import Edit
from pipeline.errors import PrepError
from pipeline.review.state import Review
from pipeline.tag_text import escape_control

_SHOWN = 20  # images of a dry run that a person reads; --json has all
_NEXT = "next: prep merge    back: prep edit --undo"
_SEVERAL: dict[str, str] = {
    "add": "Add a tag or a sentence.",
    "remove": "Take a tag or a sentence out.",
    "flag": "Note a word with the images, such as unsure.",
    "unflag": "Take such a word back.",
}
_ONCE = {
    "drop": "Leave the images out of the set.",
    "restore": "Take that back.",
    "reset": "Forget what was edited in the captions: they are again as prep makes them.",
}


def _options(command: click.Command) -> click.Command:
    """One option per kind of edit."""
    for what, help in reversed(_SEVERAL.items()):
        command.params.insert(0, click.Option([f"--{what}"], multiple=True, metavar="TEXT", help=help))
    command.params.insert(2, click.Option(["--set", "caption"], metavar="TEXT", help="Make this the whole caption."))
    swap = click.Option(
        ["--replace"], nargs=2, multiple=True, metavar="OLD NEW", help="Put one tag in the place of another."
    )
    command.params.insert(2, swap)
    for what, help in _ONCE.items():
        command.params.insert(6, click.Option([f"--{what}"], is_flag=True, help=help))
    return command


@_options
@click.command()
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@click.option("--filter", "text", default="", metavar="TEXT", help="Images that a filter means.")
@click.option("--all", "everything", is_flag=True, help="All images.")
@click.option("--undo", is_flag=True, help="Take back the last edit; again: the one before.")
@click.option("--redo", is_flag=True, help="Bring back what was taken back last.")
@click.option("--dry-run", is_flag=True, help="Show captions before and after; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="What changes as JSON lines.")
def edit(images: tuple[str, ...], text: str, everything: bool, dry_run: bool, as_json: bool, **what: Any) -> None:
    """Decide about captions by hand, for scripts.

    IMAGE is a file name or an id. A filter knows tags, AND, OR, NOT, brackets, score:beard<0.5,
    subject:smith, class:man, role:reg, flag:unsure, caption:"text", name:*.jpg, tagger:wd14, id:ID,
    dropped and edited. Edits are kept in decisions/edits.jsonl, survive tagging anew, and enter the
    captions with prep merge.
    """
    undo, redo = what.pop("undo"), what.pop("redo")
    edits = _edits(**what)
    if undo + redo + bool(edits) != 1 or (dry_run and not edits):
        raise PrepError("edit needs one thing to do.", "Such as --add hat, --remove hat, --undo; see prep edit --help.")
    review = Review.open(workspace_here())
    if not edits:
        _go_back(review, redo, as_json)
        return
    rows = select_rows(review.table, EditSelection(images, text, everything))
    ids = owners(review, rows)
    found = list(changes(review, rows, review.edits, review.edits.supposing(ids, edits)))
    if not dry_run:
        review.edits.append(review.workspace, ids, edits)
    _tell(found, as_json, dry_run)
    if not as_json:
        said, would = "; ".join(map(str, edits)), "would change" if dry_run else "changed"
        click.echo(f"{len(found):,} of {len(rows):,} images {would}: {escape_control(said)}")
        click.echo("nothing was written" if dry_run else _NEXT)


def _go_back(review: Review, again: bool, as_json: bool) -> None:
    """Undo or redo, and say what that changed."""
    before = review.edits.copy()
    entry = (review.edits.redo if again else review.edits.undo)(review.workspace)
    if entry is None:
        raise PrepError(
            f"There is nothing to {'redo' if again else 'undo'}.", "prep edit --help shows what can be done."
        )
    found = list(changes(review, affected_rows(review, entry.ids), before, review.edits))
    _tell(found, as_json, False)
    if not as_json:
        said = "; ".join(map(str, entry.edits))
        click.echo(f"{len(found):,} images changed: {'again' if again else 'took back'} {escape_control(said)}")
        click.echo(_NEXT)


def _edits(**what: Any) -> list[Edit]:
    """What was asked for, in a fixed order: the order of options on a command line says nothing."""
    if not (what["caption"] or "").isprintable():
        raise PrepError(f"set: {what['caption']!r} is not one plain line.", "Trainers read one line only.")
    made = [Edit("reset")] if what["reset"] else []
    made += [] if what["caption"] is None else [Edit("set", what["caption"])]
    made += [Edit("remove", text) for text in what["remove"]]
    made += [Edit("replace", old, new) for old, new in what["replace"]]
    made += [Edit("add", text) for text in what["add"]]
    made += [Edit("unflag", text) for text in what["unflag"]] + [Edit("flag", text) for text in what["flag"]]
    made += [Edit("restore")] if what["restore"] else []
    return made + ([Edit("drop")] if what["drop"] else [])


def _tell(found: Iterable[EditPreview], as_json: bool, dry_run: bool) -> None:
    """Each image that changes: as JSON, or before and after for a dry run."""
    for number, change in enumerate(found):
        plain: dict[str, Any] = {"id": change.record.id, "source": change.record.source, "before": change.before}
        plain |= {"after": change.after, "notes": list(change.notes)}
        if as_json:
            print_result("", plain, True)
        elif dry_run and number < _SHOWN:
            click.echo("\n".join(_lines(change)))
        elif dry_run and number == _SHOWN:
            click.echo("and more; --json lists all")


def _lines(change: EditPreview) -> list[str]:
    lines = [f"{change.record.id:<20} {escape_control(change.record.source)}"]
    if change.before != change.after:
        lines += [
            f"  - {escape_control(change.before) or '(nothing)'}",
            f"  + {escape_control(change.after) or '(nothing)'}",
        ]
    return lines + [f"  {note}" for note in change.notes]
