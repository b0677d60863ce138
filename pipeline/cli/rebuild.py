"""The command rebuild."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import click

from pipeline.cli.outdated import outdated_file, stale_json, warn_outdated
from pipeline.cli.run_options import print_result, silence
from pipeline.commands.rebuild import Replay, ReplayResult, ReplayState, by_state, other_libraries
from pipeline.progress import Progress
from pipeline.staleness import refuse_outdated
from pipeline.tag_text import escape_control

_FILE = click.Path(dir_okay=False, path_type=Path)
_MAX_LISTED = 20  # images listed per state; the others are counted


@click.command()
@click.argument("manifest", type=_FILE)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--sources",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Folder to search for source images by content; may be given several times.",
)
@click.option("--allow-stale", is_flag=True, help="Rebuild from MANIFEST although something is newer than it.")
@click.option(
    "--quiet", "-q", is_flag=True, callback=silence, help="Print errors only: no progress, remarks or results."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result for each image as JSON lines.")
def rebuild(
    manifest: Path, folder: Path, sources: tuple[Path, ...], allow_stale: bool, quiet: bool, as_json: bool
) -> None:
    """Rebuild a dataset from its manifest, without any model.

    Makes the images and captions of MANIFEST from their source images, in the empty folder FOLDER,
    and compares each file's hash. The exit code is 1 unless all are identical.
    """
    found = outdated_file(manifest)
    refuse_outdated(found, str(manifest), allow_stale)
    warn_outdated(found, str(manifest), quiet)
    if as_json and found:
        print_result("", stale_json(found), True)
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
