"""A workspace that an earlier version of prep made: what is said, and that following it works."""

from __future__ import annotations

import json

import pyarrow.parquet as pq

from pipeline.manifest import FORMAT, Manifest
from tests.shell import files, fill, photographs, prep, set_tables


def as_earlier(path):
    """Rewrite a manifest as format 1 had it: another number, and another name for a column."""
    table = pq.read_table(path)
    header = json.loads(pq.read_metadata(path).metadata[b"prep"]) | {"format": 1}
    names = ["placed" if name == "dataset_path" else name for name in table.column_names]
    pq.write_table(table.rename_columns(names).replace_schema_metadata({b"prep": json.dumps(header).encode()}), path)


def test_an_earlier_workspace_says_what_to_do_and_that_works(tmp_path):
    home = tmp_path / "ws"
    fill(tmp_path / "raw", [path for path in photographs() if path.name in ("astronaut.png", "china.jpg")])
    prep("init", home, "--subject", "smith", "man", tmp_path / "raw")
    set_tables(home, "[crop]\nresolution = 128\n[tag.basic]\n")
    prep("-C", home, "run")
    prep("-C", home, "edit", "--all", "--add", "hat")
    prep("-C", home, "run")
    made = files(home / "dataset")
    for path in (home / "manifests").glob("*.parquet"):
        as_earlier(path)
    for command in (["check"], ["merge"], ["preview"], ["edit", "--all", "--add", "cap"]):
        wrong, hint = prep("-C", home, *command, code=1).stderr.strip().splitlines()[-2:]
        assert "was written by an earlier prep, format 1." in wrong and "prep run" in hint, command
    assert "another version of prep" in prep("-C", home, "status").stdout
    prep("-C", home, "run")
    assert files(home / "dataset") == made and not list(home.glob("dataset.*"))
    assert all(b"hat" in data for name, data in made.items() if name.endswith(".txt"))
    assert Manifest.read(home / "manifests" / "build.parquet").counts.images == 2
    header = json.loads(pq.read_metadata(home / "manifests" / "crop.parquet").metadata[b"prep"])
    assert header["format"] == FORMAT > 1


def test_a_recipe_with_earlier_names_says_all_new_ones_at_once(tmp_path):
    (tmp_path / "raw").mkdir()
    prep("init", tmp_path / "ws", "--subject", "smith", "man", tmp_path / "raw")
    set_tables(tmp_path / "ws", "[train]\nbatch = 2\naccumulate = 4\n")
    wrong, hint = prep("-C", tmp_path / "ws", "status", code=1).stderr.strip().splitlines()
    assert "'batch' is 'batch_size', 'accumulate' is 'gradient_accumulation_steps'" in wrong
    assert "batch_size = 2" in hint and "gradient_accumulation_steps = 4" in hint
