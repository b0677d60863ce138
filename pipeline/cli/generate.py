"""prep generate."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from pipeline.cli.run_options import output_options, tell, workspace_here
from pipeline.commands.generate import Generate
from pipeline.commands.generate import generate as paint_all
from pipeline.options import build, click_options, given
from pipeline.progress import Progress
from pipeline.registry import read_recipe
from pipeline.tag_text import printable


def command(name: str) -> click.Command:
    """The command, its options those of Generate."""
    params: list[click.Parameter] = [*click_options(Generate), *output_options()]
    return click.Command(name, params=params, callback=_generate, help=(Generate.__doc__ or "").strip())


def _generate(quiet: bool, as_json: bool, **values: Any) -> None:
    from training.sampling.pipeline import paint

    workspace = workspace_here()
    options = build(Generate, given(values), "generate")
    with workspace.lock(), Progress("generate", quiet) as progress:
        for done in paint_all(workspace, read_recipe(workspace), options, paint, progress):
            line = f"{'generate':<9}{progress.seconds:7.1f} s   {printable(done.folder)}/: {done.new:,} painted"
            tell(f"{line}, {done.recorded:,} on record", asdict(done), as_json, quiet)
