"""The command unpack."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.run_options import print_result, silence
from pipeline.commands import unpack as unpack_command
from pipeline.progress import Progress
from pipeline.tag_text import escape_control


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option(
    "--quiet", "-q", is_flag=True, callback=silence, help="Print errors only: no progress, remarks or results."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def unpack(file: Path, folder: Path | None, quiet: bool, as_json: bool) -> None:
    """Make a workspace of a file that prep pack wrote.

    FOLDER, by default the name of FILE without its suffix, must not exist. Says what this machine lacks, such as the
    base model, and what to run next.
    """
    target = folder or Path(file.stem)
    with Progress("unpack", quiet) as progress:
        done = unpack_command.unpack(file, target)
        seconds = progress.seconds
    lines = [f"{'unpack':<9}{seconds:7.1f} s   {done.images:,} images to {escape_control(str(target))}"]
    lines += [f"  {escape_control(text)}" for text in done.missing]
    lines.append(f"next: {escape_control(done.next_step)}")
    plain = {"folder": str(target), "images": done.images, "missing": list(done.missing), "next": done.next_step}
    print_result("\n".join(lines), plain, as_json, quiet)
