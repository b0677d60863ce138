"""prep init's recipe: what a new workspace does that no option asks for."""

from __future__ import annotations

from pipeline.commands.init import InitOptions, init
from pipeline.recipe import Recipe
from pipeline.registry import ORDER, tables


def test_a_new_recipe_samples_every_epoch(tmp_path):
    (tmp_path / "photos").mkdir()
    new = InitOptions((("smith", "man", str(tmp_path / "photos")),))
    workspace = init(tmp_path / "home", new, tables())
    recipe = Recipe.read(workspace.recipe, ORDER)
    assert recipe.tables["train"] == {"sample_every_epochs": 1}


def test_chosen_training_options_replace_it(tmp_path):
    (tmp_path / "photos").mkdir()
    new = InitOptions((("smith", "man", str(tmp_path / "photos")),), options={"train": {"steps": 3}})
    workspace = init(tmp_path / "home", new, tables())
    assert Recipe.read(workspace.recipe, ORDER).tables["train"] == {"steps": 3}
