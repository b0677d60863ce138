"""A workspace with a built dataset of three small drawn images, for tests of what is current."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result
from PIL import Image

from pipeline.cli.main import cli
from pipeline.registry import read_recipe
from pipeline.run import run_all
from pipeline.workspace import Workspace
from tests.make import LOCAL, workspace

TABLES = "\n[crop]\nresolution = 64\nbucket_step = 8\n[tag.basic]\n"


def draw(path: Path, seed: int, size: int = 96) -> Path:
    """An image of random blocks, different for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize((size, size), Image.Resampling.NEAREST).save(path)
    return path


def built_workspace(folder: Path, images: str = "raw") -> Workspace:
    """A workspace whose stages have run up to build; its images lie in `images`, seen from the workspace."""
    home = workspace(folder, TABLES)
    home.recipe.write_text(home.recipe.read_text().replace('folder = "raw"', f'folder = "{images}"'))
    for seed in range(3):
        draw(home.source(images) / f"{seed}.png", seed)
    run(home)
    return home


def run(home: Workspace) -> dict[str, bool]:
    """Bring everything up to date; whether each stage had to work."""
    return {result.name: result.worked for result in run_all(home, read_recipe(home), LOCAL)}


def copied(home: Workspace, folder: Path) -> Workspace:
    """A copy of a workspace, with other file times."""
    shutil.copytree(home.root, folder, copy_function=shutil.copyfile)
    return Workspace(folder.resolve())


def prep(home: Workspace, *words: object) -> Result:
    """Run a command in this process; an error of prep's is the result's exception."""
    return CliRunner().invoke(cli, ["-C", str(home.root), *map(str, words)], standalone_mode=False)


def json_lines(result: Result) -> list[dict[str, object]]:
    assert result.exception is None, result.exception
    return [json.loads(line) for line in result.stdout.splitlines()]
