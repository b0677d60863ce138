"""The command generate."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from pipeline.cli.run_options import SectionedCommand, output_options, print_result, workspace_here
from pipeline.commands.generate import GenerateOptions, GenerateRequest, generate, output_folder
from pipeline.commands.generated_table import FILE, read_table
from pipeline.commands.generated_writer import GeneratedImage
from pipeline.commands.regularization import generate_images, generate_regularization, recipe_base
from pipeline.errors import PrepError
from pipeline.options import build_options, only_given, sections
from pipeline.progress import Progress
from pipeline.recipe import Recipe
from pipeline.registry import read_recipe
from pipeline.report.generated_page import write_generated_page
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace

_HELP = """Generate images from prompts, as AUTOMATIC1111's WebUI does from the same settings.

PROMPT is in WebUI's language: (word:1.2), [from:to:0.5], [a|b], AND, BREAK, <lora:NAME:0.8>, and names of
embeddings. Every image carries its settings, in the form that WebUI and Civitai read, and is a row of
generated.parquet in the same folder.

\b
prep generate "photo of ohwx man <lora:run:0.8>" --seed 1 --batch-count 4
prep generate --from generated/00001-1.png --steps 40    the same image with more steps
prep generate --regularization                           the images that prep.toml asks for
"""


def command(name: str) -> click.Command:
    """The command, with the options of GenerateOptions."""
    options = sections(GenerateOptions)
    options["Job"] += [
        click.Option(
            ["--from", "source"],
            metavar="IMAGE",
            type=click.Path(path_type=Path),
            help="Make this image again from the settings that it carries; single options then win.",
        ),
        click.Option(["--sheet"], is_flag=True, help="Write a page with all images of the folder: sheet.html."),
        click.Option(
            ["--regularization"],
            is_flag=True,
            help="Generate the regularization images of prep.toml: generate and prompt in [[regularization]].",
        ),
        *output_options(),
    ]
    made = SectionedCommand(name, options, _generate, _HELP)
    made.params.insert(0, click.Argument(["prompt"], nargs=-1))
    return made


def _generate(
    prompt: tuple[str, ...],
    source: Path | None,
    sheet: bool,
    regularization: bool,
    quiet: bool,
    as_json: bool,
    **values: Any,
) -> None:
    given = only_given(values)
    options = build_options(GenerateOptions, given, "generate")
    if regularization:
        if prompt or source:
            raise PrepError(
                "The prompts of regularization images are those of prep.toml.", "prep generate --regularization"
            )
        _print_regularization(options, quiet, as_json)
        return
    workspace, recipe = _found_workspace()
    request = GenerateRequest(prompt, options, given, source, recipe_base(recipe) if recipe else "")
    done = 0
    with Progress("generate", quiet) as progress:
        for image in generate(workspace, request, progress):
            print_result(image_line(image), plain_image(image), as_json, quiet)
            done += 1
    folder = output_folder(workspace, options.job.output)
    if not as_json and not quiet:
        click.echo(f"{'generate':<9}{progress.seconds:7.1f} s   {done:,} in {_shown_path(folder)}/", err=True)
    if sheet:
        page = write_generated_page(folder, read_table(folder / FILE))
        print_result(_shown_path(page), {"sheet": str(page)}, as_json, quiet)


def _found_workspace() -> tuple[Workspace | None, Recipe | None]:
    """The workspace here with its recipe, or None: images can be generated anywhere."""
    try:
        workspace = workspace_here()
    except PrepError:
        if click.get_current_context().find_root().obj != Path():
            raise  # -C names a folder
        return None, None
    return workspace, read_recipe(workspace)


def _print_regularization(options: GenerateOptions, quiet: bool, as_json: bool) -> None:
    workspace = workspace_here()
    with workspace.lock(), Progress("generate", quiet) as progress:
        for done in generate_regularization(workspace, read_recipe(workspace), options, generate_images, progress):
            line = f"{'generate':<9}{progress.seconds:7.1f} s   {escape_control(done.folder)}/: {done.new:,} generated"
            print_result(f"{line}, {done.recorded:,} recorded", asdict(done), as_json, quiet)


def image_line(image: GeneratedImage) -> str:
    """An image for people."""
    width, height = image.size
    seed, prompt = image.settings.noise.seed, escape_control(image.settings.prompt)
    shown = prompt if len(prompt) <= 48 else f"{prompt[:47]}…"
    return f"{_shown_path(image.path)}   {width} x {height}   seed {seed}   {shown}"


def _shown_path(path: Path) -> str:
    return escape_control(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def plain_image(image: GeneratedImage) -> dict[str, Any]:
    """An image for JSON."""
    return {"file": str(image.path), "width": image.size[0], "height": image.size[1]} | image.settings.everything()
