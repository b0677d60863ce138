"""The command import."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.run_options import print_result, silence
from pipeline.commands import import_ as import_command
from pipeline.progress import Progress
from pipeline.shell_words import quoted
from pipeline.tag_text import escape_control

_SETS = {"train": "training", "val": "validation", "reg": "regularization"}


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
@click.option(
    "--quiet", "-q", is_flag=True, callback=silence, help="Print errors only: no progress, remarks or results."
)
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
    lines += [f"wrote {done.workspace.recipe}", f"next: prep -C {quoted(folder)} run"]
    plain = {"images": total, "captions": done.captions, "layout": done.layout, "notes": list(done.notes)}
    print_result("\n".join(lines), plain, as_json, quiet)
