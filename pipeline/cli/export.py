"""The command export."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.outdated import stale_json, warn_outdated
from pipeline.cli.run_options import print_result, silence, workspace_here
from pipeline.commands import export as export_command
from pipeline.errors import PrepError
from pipeline.exchange.layouts import LAYOUTS
from pipeline.progress import Progress
from pipeline.registry import read_recipe
from pipeline.staleness import outdated, refuse_outdated
from pipeline.tag_text import escape_control

_SHARD_SIZE = 256  # MiB
_ABOUT = "\n".join(("\b", *(f"{name:<16}{layout.description}" for name, layout in LAYOUTS.items())))


@click.command(
    help=f"""Write the dataset in the layout of another tool.

    Writes the images and captions of prep build to TARGET, which must not exist. Images are
    hard-linked or copied, never moved. LAYOUT is one of:

    {_ABOUT}
    """.replace("\n    ", "\n")
)
@click.argument("layout", type=click.Choice(list(LAYOUTS)), metavar="LAYOUT")
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--shard-size",
    type=click.IntRange(1),
    default=None,
    metavar="MB",
    help="Maximum size of a tar shard in MiB.  [256]",
)
@click.option("--allow-stale", is_flag=True, help="Use the dataset although something is newer than it.")
@click.option(
    "--quiet", "-q", is_flag=True, callback=silence, help="Print errors only: no progress, remarks or results."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def export(layout: str, target: Path, shard_size: int | None, allow_stale: bool, quiet: bool, as_json: bool) -> None:
    workspace, chosen = workspace_here(), LAYOUTS[layout]
    if shard_size and layout != "webdataset":
        raise PrepError(f"--shard-size has no effect on {layout}, which has no shards.", "Leave it out.")
    found = outdated(workspace, read_recipe(workspace), "build") if workspace.manifest("build").is_file() else []
    refuse_outdated(found, "The dataset", allow_stale)
    warn_outdated(found, "The dataset", quiet)
    with workspace.lock(), Progress("export", quiet) as progress:
        done = export_command.export(workspace, chosen, target, (shard_size or _SHARD_SIZE) << 20, progress)
        seconds = progress.seconds
    total = done.images.total()
    lines = [f"{'export':<9}{seconds:7.1f} s   {total:,} images to {escape_control(str(target))}"]
    lines += [f"{'':<22}{escape_control(folder)}  {count:,}" for folder, count in sorted(done.images.items())]
    lines += [f"{'':<22}{note}" for note in done.notes]
    lines.append(f"next: {escape_control(done.next_step(chosen, target))}")
    plain = {"target": str(target), "images": total, "folders": dict(done.images), "notes": done.notes}
    plain |= stale_json(found)
    print_result("\n".join(lines), plain, as_json, quiet)
