from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from pipeline.commands.generate import GenerateOptions
from pipeline.commands.regularization import GeneratedSet, generate_regularization, read_generated
from pipeline.errors import PrepError
from pipeline.recipe import Recipe
from pipeline.registry import ORDER
from pipeline.workspace import write_atomic
from tests.make import workspace
from tests.shell import files

MEN = '\n[[regularization]]\nclass = "man"\ngenerate = 5\nprompt = "photo of a man"\n[crop]\nresolution = 64\n'


def fake(asked, stop=99):
    """A generator that fills each image with its seed, and stops after `stop` of them."""

    def generate_images(base, requests, home, report, batch_size):
        for number, request in enumerate(requests):
            if number == stop:
                raise KeyboardInterrupt
            asked.append(request)
            yield Image.fromarray(np.full((request.height, request.width, 3), request.noise.seed, np.uint8))
            report(number + 1, len(requests))

    return generate_images


def go(home, generate_images, **options):
    recipe = Recipe.read(home.recipe, ORDER)
    chosen = GenerateOptions.from_values({"base": "mini"} | options)
    return list(generate_regularization(home, recipe, chosen, generate_images, lambda done, total: None))


def test_as_many_as_asked_for_with_the_seed_of_each_on_record(tmp_path):
    home = workspace(tmp_path, MEN)
    asked = []
    assert go(home, fake(asked), seed=7) == [GeneratedSet("generated/man", 5, 5)]
    assert [(p.noise.seed, p.prompt, p.width, p.height) for p in asked] == [
        (seed, "photo of a man", 64, 64) for seed in range(7, 12)
    ]
    entry = json.loads((home.root / "generated/man/generated.json").read_text())["00002.png"]
    assert len(entry.pop("base_sha256")) == 64
    assert entry == asked[2].everything() | {"base": "mini", "control": []}
    assert entry["seed"] == 9 and entry["steps"] == 20 and entry["size"] == "64x64"
    assert np.asarray(Image.open(home.root / "generated/man/00002.png"))[0, 0].tolist() == [9, 9, 9]


def test_after_a_stop_it_continues(tmp_path):
    home, other = workspace(tmp_path / "a", MEN), workspace(tmp_path / "b", MEN)
    with pytest.raises(KeyboardInterrupt):
        go(home, fake([], stop=2))
    assert len(read_generated(home.root / "generated/man")) == 2
    asked = []
    assert go(home, fake(asked)) == [GeneratedSet("generated/man", 3, 5)]
    assert [p.noise.seed for p in asked] == [2, 3, 4]
    go(other, fake([]))
    assert files(home.root / "generated") == files(other.root / "generated")


def test_no_image_is_generated_twice_even_if_it_was_deleted(tmp_path):
    home = workspace(tmp_path, MEN)
    go(home, fake([]))
    (home.root / "generated/man/00001.png").unlink()
    assert go(home, fake(None)) == [GeneratedSet("generated/man", 0, 5)]
    home.recipe.write_text(home.recipe.read_text().replace("generate = 5", "generate = 6"))
    asked = []
    go(home, fake(asked))
    assert [p.noise.seed for p in asked] == [5]


@pytest.mark.parametrize(
    ("change", "options", "wrong"),
    [
        (("photo of", "drawing of"), {}, "another prompt: photo of a man"),
        (("64", "128"), {}, "another size: 64x64"),
        (("a", "a"), {"seed": 3}, "another seed: 0"),
        (("a", "a"), {"sampler": "ddim"}, "another sampler: "),
    ],
)
def test_images_made_otherwise_are_not_mixed_and_never_deleted(tmp_path, change, options, wrong):
    home = workspace(tmp_path, MEN)
    go(home, fake([]))
    before = files(home.root / "generated")
    head, _, tail = home.recipe.read_text().partition("[[reg")
    home.recipe.write_text(head + "[[reg" + tail.replace(*change))
    with pytest.raises(PrepError, match=wrong):
        go(home, fake(None), **options)
    assert files(home.root / "generated") == before


def test_without_a_table_and_with_a_damaged_record(tmp_path):
    home = workspace(tmp_path)
    with pytest.raises(PrepError, match="does not ask for generated images"):
        go(home, fake(None))
    write_atomic(tmp_path / "x" / "generated.json", b'{"a": ')
    with pytest.raises(PrepError, match="is damaged"):
        read_generated(tmp_path / "x")


def test_a_record_of_an_earlier_prep_is_read_and_continued(tmp_path):
    home = workspace(tmp_path, MEN)
    earlier = {"prompt": "photo of a man", "negative": "", "width": 64, "height": 64, "steps": 20, "scale": 7.0}
    write_atomic(
        home.root / "generated/man/generated.json",
        json.dumps({"00000.png": earlier | {"seed": 0, "sampler": "auto", "base": "mini"}}).encode(),
    )
    entry = read_generated(home.root / "generated/man")["00000.png"]
    assert entry["cfg_scale"] == 7.0 and entry["size"] == "64x64" and entry["sampler"] == ""
    assert go(home, fake([])) == [GeneratedSet("generated/man", 4, 5)]
