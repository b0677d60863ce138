"""The command control."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.cli.run_options import print_result
from pipeline.commands.control import ControlMap
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace
from training.sampling.closest_name import find_name
from training.sampling.control.kinds import KINDS

_KINDS = "\n".join(
    f"  {name:<14}{kind.what}{'' if kind.draw else ' (drawn by a model)'}" for name, kind in KINDS.items()
)
_HELP = f"""Draw the control map of an image.

The map is what a control model follows in prep generate, which draws it by itself:

\b
  prep generate PROMPT --control canny=photo.png
  prep generate PROMPT --control canny=photo.png,model=FILE,weight=0.8,end=0.7

After the image follow, in any order: model (file, folder or hub id), weight, start and end (shares of the steps),
mode (balanced, prompt, control), resize (crop, stretch, fill), resolution (0: pixel perfect), low, high (thresholds),
map=no where the image is a map already.

\b
KIND is one of:
{_KINDS}

Models for these are downloaded once; without one, the error says how to get it.
"""


@click.command(help=_HELP)
@click.argument("kind")
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--resolution",
    default=512,
    show_default=True,
    type=click.IntRange(0, 4096),
    metavar="PIXELS",
    help="Shorter side that the map is drawn at; 0 is that of the result.",
)
@click.option("--low", default=-1.0, type=click.FloatRange(-1), metavar="X", help="Lower threshold.  [the kind's own]")
@click.option("--high", default=-1.0, type=click.FloatRange(-1), metavar="X", help="Upper threshold.  [the kind's own]")
@click.option("--detector", default="", metavar="MODEL", help="Model that draws: a folder or hub id.  [the kind's own]")
@click.option("--size", default="", metavar="WIDTHxHEIGHT", help="Size of the map.  [as it is drawn]")
@click.option(
    "--resize",
    default="crop",
    show_default=True,
    type=click.Choice(["crop", "stretch", "fill"]),
    help="How the map gets its size.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def control(kind: str, image: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Draw the control map of an image."""
    title = find_name(kind, {name: known.aliases for name, known in KINDS.items()}, "kind of control")
    here = Workspace(Path.cwd())
    width, height = ControlMap(kind=title, **options).draw(image, out, here)
    text = f"control  {title} of {escape_control(str(image))}: {escape_control(str(out))}, {width} x {height} pixels"
    print_result(text, {"kind": title, "map": str(out), "width": width, "height": height}, as_json)
