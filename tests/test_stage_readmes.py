"""The examples in the READMEs of stages/ and taggers/ run as they are written, on two images, as commands run them."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import stages
import taggers
from pipeline import registry
from pipeline.registry import read_recipe, stage_plan, tag_plan
from pipeline.run import run_stage
from tests.make import LOCAL, workspace

ROOT = Path(__file__).resolve().parent.parent


def blocks(readme: str) -> list[str]:
    """The fenced Python of a README."""
    return re.findall(r"```python\n(.*?)```", (ROOT / readme).read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def example(tmp_path, monkeypatch, request):
    """Writes the module of a README's first block, and evaluates the table entry of its second one."""

    def add(package, readme):
        module, entry = blocks(readme)
        path = module.split("\n")[0].removeprefix("# ")
        folder, _, file = path.partition("/")
        (tmp_path / "added").mkdir()
        (tmp_path / "added" / file).write_text(module, encoding="utf-8")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / "added")])
        name = f"{folder}.{file.removesuffix('.py')}"
        importlib.invalidate_caches()
        added = importlib.import_module(name)
        request.addfinalizer(lambda: sys.modules.pop(name))
        return eval(f"{{{entry}}}", vars(added))

    return add


@pytest.fixture
def home(tmp_path):
    """A workspace with two cropped images: one symmetrical and bright, one neither."""
    home = workspace(tmp_path / "smith", "[crop]\nresolution = 64\n")
    even = np.full((96, 96, 3), 200, np.uint8)
    dark = np.zeros((96, 96, 3), np.uint8)
    dark[:, 48:] = 40
    for name, pixels in (("even", even), ("dark", dark)):
        Image.fromarray(pixels).save(home.path(f"raw/{name}.png"))
    run_stage(stage_plan("crop", read_recipe(home), {}), home, read_recipe(home), LOCAL)
    return home


def test_a_tagger_is_a_module_and_an_entry(home, example, monkeypatch):
    for name, cls in example(taggers, "taggers/README.md").items():
        monkeypatch.setitem(registry.TAGGERS, name, cls)
    recipe = read_recipe(home)
    manifest = run_stage(tag_plan(recipe, {"symmetry": {}}), home, recipe, LOCAL).manifest
    found = {Path(r.source).stem: [(a.text, a.score, a.tagger) for a in r.annotations] for r in manifest.records()}
    assert found == {"even": [("symmetry", 1.0, "symmetry")], "dark": []}
    lower = run_stage(tag_plan(recipe, {"symmetry": {"min_score": 0.8}}), home, recipe, LOCAL).manifest
    assert [len(r.annotations) for r in lower.records()] == [1, 1]


def test_a_stage_is_a_module_and_an_entry(home, example, monkeypatch):
    for name, cls in example(stages, "stages/README.md").items():
        monkeypatch.setitem(registry.STAGES, name, cls)
        monkeypatch.setattr(registry, "ORDER", ("crop", name, *registry.ORDER[1:]))
    recipe = read_recipe(home)
    manifest = run_stage(stage_plan("brightness", recipe, {}), home, recipe, LOCAL).manifest
    reasons = {Path(r.source).stem: r.drop and (r.drop.stage, r.drop.reason) for r in manifest.records()}
    assert reasons == {"even": None, "dark": ("brightness", "too dark")}
    assert manifest.history[-1].stage == "brightness" and manifest.history[-1].params == {"min_mean": 30.0}


@pytest.mark.parametrize("readme", ["stages/README.md", "taggers/README.md"])
def test_a_readme_names_modules_that_exist_and_every_top_module(readme):
    folder = (ROOT / readme).parent
    text = (ROOT / readme).read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_/0-9]+\.py)`", text))
    everywhere = {path.name for path in folder.rglob("*.py")}
    assert not {n for n in named if not (folder / n).is_file() and not (ROOT / n).is_file() and n not in everywhere}
    assert not {path.name for path in folder.glob("[a-z]*.py") if f"`{path.name}`" not in text}
