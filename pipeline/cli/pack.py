"""The command pack."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.outdated import stale_json, warn_outdated
from pipeline.cli.run_options import print_result, silence, workspace_here
from pipeline.commands import pack as pack_command
from pipeline.plural import counted
from pipeline.progress import Progress
from pipeline.registry import read_recipe
from pipeline.staleness import outdated
from pipeline.tag_text import escape_control


@click.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--quiet", "-q", is_flag=True, callback=silence, help="Print errors only: no progress, remarks or results."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def pack(file: Path | None, quiet: bool, as_json: bool) -> None:
    """Pack the workspace into one file, to train on another machine.

    Writes the cropped images, manifests, decisions and prep.toml to FILE, by default NAME.tar in the current folder,
    and files that prep.toml names if they lie in the workspace. Your own images, models, runs and the cache are left
    out: there, the workspace can be reviewed, merged, built and trained, but not cropped. See prep unpack.
    """
    workspace = workspace_here()
    recipe = read_recipe(workspace)
    target = file or Path(f"{workspace.root.name}.tar")
    found = outdated(workspace, recipe, "build")
    warn_outdated(found, "The workspace", quiet)
    with workspace.lock(), Progress("pack", quiet) as progress:
        done = pack_command.pack(workspace, recipe, target, progress)
        seconds = progress.seconds
    name = escape_control(str(target))
    size = f"{done.bytes / 1e6:,.1f} MB"
    lines = [f"{'pack':<9}{seconds:7.1f} s   {counted(done.files.total(), 'file')}, {size}, to {name}"]
    parts = ", ".join(f"{folder} {count:,}" for folder, count in sorted(done.files.items()))
    lines.append(f"  {escape_control(parts)}")
    lines += [f"  not packed: {option} = {escape_control(value)}" for option, value in done.left_out.items()]
    lines.append(f"next: copy {name} to the other machine, and there: prep unpack {escape_control(target.name)}")
    plain = {"file": str(target), "files": dict(done.files), "bytes": done.bytes, "not_packed": done.left_out}
    plain |= stale_json(found)
    print_result("\n".join(lines), plain, as_json, quiet)
