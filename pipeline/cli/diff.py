"""The command diff."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import click

from pipeline.cli.outdated import outdated_file, stale_json, warn_outdated
from pipeline.cli.run_options import print_result
from pipeline.commands import diff as diff_command
from pipeline.commands.diff import ManifestChange, ManifestDiff
from pipeline.manifest import Manifest
from pipeline.options import format_value
from pipeline.tag_text import escape_control

_FILE = click.Path(dir_okay=False, path_type=Path)
_MAX_ROWS = 20  # rows of a list shown to people; --json has all


@click.command()
@click.argument("before", type=_FILE)
@click.argument("after", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON lines.")
def diff(before: Path, after: Path, as_json: bool) -> None:
    """Show what changed between two manifests.

    Compares options, images, crops, tags and captions. The exit code is 1 if anything differs.
    """
    for file in (before, after):
        warn_outdated(stale := outdated_file(file), str(file))
        if as_json and stale:
            print_result("", {"manifest": str(file)} | stale_json(stale), True)
    found = diff_command.diff(Manifest.read(before), Manifest.read(after))
    if as_json:
        for stage, option, was, now in found.options:
            print_result("", {"stage": stage, "option": option, "before": was, "after": now}, True)
        for change in found.changes:
            print_result("", asdict(change), True)
    else:
        click.echo("\n".join(diff_lines(found)))
    sys.exit(0 if found.same else 1)


def diff_lines(diff: ManifestDiff) -> Iterable[str]:
    """Changed options first, then for each kind of change how many images have it and which."""
    if diff.same:
        yield "No difference: the same options, images, crops, tags and captions."
        return
    for stage, option, before, after in diff.options:
        yield f"{stage:<9}{option}: {format_value(before)} -> {format_value(after)}"
    kinds: dict[str, list[ManifestChange]] = {}
    for change in diff.changes:
        kinds.setdefault(change.what, []).append(change)
    for what, changes in kinds.items():
        yield f"{what}: {len(changes):,} images"
        for change in changes[:_MAX_ROWS]:
            yield f"  {change.id:<20} {escape_control(change.source)}"
            yield from _change_lines(change)
        if len(changes) > _MAX_ROWS:
            yield f"  and {len(changes) - _MAX_ROWS:,} more; --json lists all"


def _change_lines(change: ManifestChange) -> Iterable[str]:
    """Before and after; of tags, what was removed and what was added."""
    if change.what == "tags":
        sides = ("removed", change.before), ("added", change.after)
        yield from (f"    {word}: {escape_control(tags)}" for word, tags in sides if tags)
    elif change.before or change.after:
        yield f"    - {escape_control(change.before) or '(nothing)'}"
        yield f"    + {escape_control(change.after) or '(nothing)'}"
