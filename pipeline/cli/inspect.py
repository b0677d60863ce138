"""The commands preview, diff and rebuild."""

from __future__ import annotations

import itertools
import sys
from dataclasses import asdict
from pathlib import Path

import click

from pipeline.cli import preview_output
from pipeline.cli.output import diff_lines
from pipeline.cli.run_options import print_result, workspace_here
from pipeline.commands import diff as diff_command
from pipeline.commands.rebuild import Replay, ReplayResult, ReplayState, by_state, other_libraries
from pipeline.manifest import Manifest
from pipeline.progress import Progress
from pipeline.record import Record
from pipeline.registry import ORDER, latest_manifest
from pipeline.report.tags import merge_of
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace
from stages.merging.compose import Composer

_FILE = click.Path(dir_okay=False, path_type=Path)
_MAX_LISTED = 20  # images listed per state; the others are counted


@click.command()
@click.argument("stage", type=click.Choice(ORDER), required=False)
@click.option("--page", metavar="N", type=click.IntRange(1), help="Images per page.  [as many as fit]")
@click.option("--all", "everything", is_flag=True, help="Show dropped images too.")
def preview(stage: str | None, page: int | None, everything: bool) -> None:
    """Show images and captions, page by page.

    Shows the latest stage unless STAGE is given. Prints plain text, one line per image, when piped.
    """
    workspace = workspace_here()
    manifest = latest_manifest(workspace, stage)
    records = (record for record in manifest.records() if everything or record.kept)
    if sys.stdout.isatty():
        _show_pages(list(records), workspace, page, Composer.of(merge_of(manifest, workspace), workspace))
    else:
        for line in preview_output.tsv_lines(records):
            click.echo(line)


@click.command()
@click.argument("before", type=_FILE)
@click.argument("after", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON lines.")
def diff(before: Path, after: Path, as_json: bool) -> None:
    """Show what changed between two manifests.

    Compares options, images, crops, tags and captions. The exit code is 1 if anything differs.
    """
    found = diff_command.diff(Manifest.read(before), Manifest.read(after))
    if as_json:
        for stage, option, was, now in found.options:
            print_result("", {"stage": stage, "option": option, "before": was, "after": now}, True)
        for change in found.changes:
            print_result("", asdict(change), True)
    else:
        click.echo("\n".join(diff_lines(found)))
    sys.exit(0 if found.same else 1)


@click.command()
@click.argument("manifest", type=_FILE)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--sources",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Folder to search for source images by content; may be given several times.",
)
@click.option("--quiet", "-q", is_flag=True, help="Print no progress and no results.")
@click.option("--json", "as_json", is_flag=True, help="Print the result for each image as JSON lines.")
def rebuild(manifest: Path, folder: Path, sources: tuple[Path, ...], quiet: bool, as_json: bool) -> None:
    """Rebuild a dataset from its manifest, without any model.

    Makes the images and captions of MANIFEST from their source images, in the empty folder FOLDER,
    and compares each file's hash. The exit code is 1 unless all are identical.
    """
    replay = Replay.prepare(manifest, folder, list(sources))
    with Progress("rebuild", quiet) as progress:
        table = by_state(replay.run(progress))
        seconds = progress.seconds
    for state, verdicts in table.items():
        for verdict in verdicts:
            if as_json:
                print_result("", {"id": verdict.record.id, "source": verdict.record.source, "state": state}, True)
    if not as_json and not quiet:
        click.echo("\n".join(_verdict_lines(table, replay, seconds)))
    sys.exit(0 if set(table) == {"same"} else 1)


def _verdict_lines(table: dict[ReplayState, list[ReplayResult]], replay: Replay, seconds: float) -> list[str]:
    total = replay.manifest.counts.images
    lines = [f"rebuild  {seconds:8.1f} s   {len(table.get('same', [])):,} of {total:,} images the same, byte for byte"]
    for state, verdicts in table.items():
        if state == "same":
            continue
        lines.append(f"{state}: {len(verdicts):,} images")
        names = dict.fromkeys(verdict.detail for verdict in verdicts)
        lines += [f"  {escape_control(name)}" for name in itertools.islice(names, _MAX_LISTED)]
        lines += [f"  and {len(names) - _MAX_LISTED:,} more; --json lists all"] if len(names) > _MAX_LISTED else []
    if set(table) - {"same"} and (changed := other_libraries(replay.manifest)):
        lines.append(f"made with other library versions: {'; '.join(changed)}")
    return lines


def _show_pages(records: list[Record], workspace: Workspace, size: int | None, composer: Composer) -> None:
    """Page through the records: space or right for the next page, b or left for the previous one, q to quit."""
    from rich.console import Console

    console = Console()
    size = size or preview_output.page_size(console.height)
    last = max(0, (len(records) - 1) // size)
    at = 0
    while True:
        console.clear()
        shown = records[at * size : (at + 1) * size]
        console.print(preview_output.page(shown, composer, workspace, (console.width, console.height)))
        footer = f"page {at + 1} of {last + 1}   {len(records):,} images   space: next, b: back, q: quit"
        console.print(f"[dim]{footer}[/dim]", end="")
        key = click.getchar()
        if key in ("q", "Q", "\x03", "\x1b"):
            break
        at = max(0, at - 1) if key in ("b", "\x1b[D") else min(last, at + 1)
    console.print()
