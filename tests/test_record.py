"""Records: which image a record goes back to."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from pipeline.record import ROOT_LENGTH, root_of

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("suffix", ["", "-1", "-12", "-same3", "-1-2"])
def test_a_copy_goes_back_to_its_image(suffix):
    id = "0123456789abcdef"
    assert len(id) == ROOT_LENGTH
    assert root_of(id + suffix) == id


def test_the_rule_is_written_down_once():
    """No other module of the sources cuts a record's id at its dash."""
    for package in ("pipeline", "stages", "training"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Subscript) and ast.unparse(node).endswith(
                    ("id.partition('-')[0]", "id.split('-')[0]")
                ):
                    assert path.name == "record.py", f"{path}:{node.lineno} has its own rule for the root of an id"
