"""The commands export and import."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.run_options import print_result, workspace_here
from pipeline.commands import export as export_command
from pipeline.commands import import_ as import_command
from pipeline.exchange.layouts import LAYOUTS
from pipeline.progress import Progress
from pipeline.tag_text import escape_control

_SETS = {"train": "training", "val": "validation", "reg": "regularization"}
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
    default=256,
    metavar="MB",
    help="Maximum size of a tar shard in MiB.  [256]",
)
@click.option("--quiet", "-q", is_flag=True, help="Print no progress and no results.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def export(layout: str, target: Path, shard_size: int, quiet: bool, as_json: bool) -> None:
    workspace, chosen = workspace_here(), LAYOUTS[layout]
    with workspace.lock(), Progress("export", quiet) as progress:
        done = export_command.export(workspace, chosen, target, shard_size << 20, progress)
        seconds = progress.seconds
    total = done.images.total()
    lines = [f"{'export':<9}{seconds:7.1f} s   {total:,} images to {escape_control(str(target))}"]
    lines += [f"{'':<22}{escape_control(folder)}  {count:,}" for folder, count in sorted(done.images.items())]
    lines += [f"{'':<22}{note}" for note in done.notes]
    lines.append(f"next: {chosen.next_step.format(target=escape_control(str(target)), extension=done.extension)}")
    plain = {"target": str(target), "images": total, "folders": dict(done.images), "notes": done.notes}
    print_result("\n".join(lines), plain, as_json, quiet)


@click.command(name="import")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--subject",
    nargs=2,
    metavar="TOKEN CLASS",
    help="Token and class of images in folders whose name does not contain them.",
)
@click.option("--copy", is_flag=True, help="Copy the images into the workspace instead of reading them from SOURCE.")
@click.option("--quiet", "-q", is_flag=True, help="Print no progress and no results.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def import_(
    source: Path, folder: Path, subject: tuple[str, str] | None, copy: bool, quiet: bool, as_json: bool
) -> None:
    """Create a workspace from another tool's dataset.

    SOURCE is a folder in kohya's layout, a Hugging Face imagefolder, a folder of images with
    caption files (taggui, BooruDatasetTagManager), a zip file or a folder of tar shards. FOLDER
    becomes the workspace, with subjects and repeats in prep.toml and every caption unchanged.
    SOURCE is only read.
    """
    with Progress("import", quiet) as progress:
        done = import_command.import_dataset(source, folder, import_command.ImportOptions(subject, copy), progress)
        seconds = progress.seconds
    total = done.images.total()
    lines = [f"{'import':<9}{seconds:7.1f} s   {total:,} images with {done.captions:,} captions from {done.layout}"]
    for (role, token, class_name), count in sorted(done.images.items()):
        name = " ".join(dict.fromkeys(filter(None, (token, class_name))))
        lines.append(f"{'':<22}{_SETS[role]}: {escape_control(name)}  {count:,}")
    lines += [f"{'':<22}{note}" for note in done.notes]
    lines += [f"wrote {done.workspace.recipe}", f"next: prep -C {folder} run"]
    plain = {"images": total, "captions": done.captions, "layout": done.layout, "notes": list(done.notes)}
    print_result("\n".join(lines), plain, as_json, quiet)
