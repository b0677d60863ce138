"""prep demo: the whole line on the world that comes with prep, by the models that know it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from PIL import Image

from pipeline.cli.main import cli
from pipeline.commands import demo
from pipeline.commands.generated_table import FILE, read_table
from pipeline.errors import PrepError
from pipeline.recipe import Recipe
from pipeline.workspace import Workspace


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A demo that trains for two steps: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "_TRAINING", {"steps": 2, "sample_steps": 2})
        done = CliRunner().invoke(cli, ["demo", str(folder)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return folder, done.output


def test_every_stage_accounts_for_every_file(shown):
    _, said = shown
    lines = {line.split()[0]: line for line in said.splitlines() if " found = " in line}
    assert list(lines) == ["crop", "augment", "tag", "merge", "build", "train"]
    assert "51 found = 49 kept + 2 dropped" in lines["crop"] and "duplicate 1" in lines["crop"]
    assert "regularization: used" in said


def test_the_captions_are_the_triggers_and_what_else_is_seen(shown):
    folder, _ = shown
    texts = [path.read_text("utf-8") for path in sorted((folder / "dataset").glob("*/*zmith man/*.txt"))]
    assert len(texts) > 20 and all(text.startswith("zmith, ") for text in texts)
    said = {tag for text in texts for tag in text.split(", ")}
    assert {"forge", "flat color", "smile"} & said and not {"beard", "apron", "blue shirt"} & said


def test_it_ends_with_a_table_of_samples_and_where_everything_is(shown):
    folder, said = shown
    sheet = folder / "runs" / "demo" / "samples" / "all.png"
    assert str(sheet) in said and str(folder / "runs" / "demo" / "demo.safetensors") in said
    with Image.open(sheet) as opened:
        width, height = opened.size
    assert height > width > 2 * 128  # six prompts, the base and the trained model
    summary = json.loads((folder / "runs" / "demo" / "run.json").read_text("utf-8"))
    assert summary["train"]["base"].endswith("mini-diffusion")


def test_it_generates_images_with_the_adapter(shown):
    folder, said = shown
    rows = read_table(folder / "generated" / FILE)
    assert len(rows) == 4 and all(row["networks"].startswith("demo: ") for row in rows)
    assert (folder / "generated" / "sheet.html").is_file() and said.count("generated/0000") >= 4
    assert list(demo.generate_images(Workspace(folder), lambda done, total: None)) == []  # not again


def test_its_recipe_is_whole_and_an_earlier_demo_goes_on(shown):
    folder, _ = shown
    recipe = Recipe.read(folder / "prep.toml", ("crop", "augment", "tag", "merge", "build", "train"))
    assert [subject.token for subject in recipe.subjects] == ["zmith"]
    assert demo.create_demo(folder).root == folder.resolve()


def test_another_folder_is_not_written_into(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(PrepError, match="is not empty"):
        demo.create_demo(tmp_path)
