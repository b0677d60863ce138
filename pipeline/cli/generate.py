"""The command generate."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from pipeline.cli.run_options import output_options, print_result, workspace_here
from pipeline.commands.generate import Generate, generate
from pipeline.options import build_options, click_options, only_given
from pipeline.progress import Progress
from pipeline.registry import read_recipe
from pipeline.tag_text import escape_control


def command(name: str) -> click.Command:
    """The command, with the options of Generate."""
    params: list[click.Parameter] = [*click_options(Generate), *output_options()]
    return click.Command(name, params=params, callback=_generate, help=(Generate.__doc__ or "").strip())


def _generate(quiet: bool, as_json: bool, **values: Any) -> None:
    from training.sampling.image_generator import generate_images

    workspace = workspace_here()
    options = build_options(Generate, only_given(values), "generate")
    with workspace.lock(), Progress("generate", quiet) as progress:
        for done in generate(workspace, read_recipe(workspace), options, generate_images, progress):
            line = f"{'generate':<9}{progress.seconds:7.1f} s   {escape_control(done.folder)}/: {done.new:,} generated"
            print_result(f"{line}, {done.recorded:,} recorded", asdict(done), as_json, quiet)
