"""The examples in the READMEs of checks, exchange and commands run as they are written."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.checks import check as checks
from pipeline.commands.export import export
from pipeline.exchange.layouts import ExportLayout
from tests.built import built_workspace
from tests.checking import found, good

ROOT = Path(__file__).resolve().parent.parent


def example(package, number=0):
    """The Python code of the numbered block of a package's README."""
    text = (ROOT / "pipeline" / package / "README.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)[number]


def test_the_example_rule_finds_long_images(tmp_path, monkeypatch):
    names = {"__name__": "aspect_rules"}
    exec(compile(example("checks"), "aspect_rules.py", "exec"), names)
    monkeypatch.setattr(checks, "SET_RULES", (*checks.SET_RULES, *names["RULES"]))
    records = [good(n) for n in range(12)]
    assert found(tmp_path / "good", records) == {}
    records[3] = replace(records[3], image=replace(records[3].image, width=1280, height=384))
    finding = found(tmp_path / "long", records)["very long image"]
    assert (finding.severity, finding.images) == ("note", ("raw/3.jpg",))


def test_the_example_layout_is_exported(tmp_path):
    names = {"__name__": "captions_csv"}
    exec(compile(example("exchange"), "captions_csv.py", "exec"), names)
    scope = {"ExportLayout": ExportLayout, "captions_csv": SimpleNamespace(write=names["write"])}
    layouts = eval(f"{{{example('exchange', 1)}}}", scope)
    export(built_workspace(tmp_path), layouts["csv"], tmp_path / "set", 2**28, lambda done, total: None)
    rows = list(csv.reader((tmp_path / "set" / "captions.csv").open(encoding="utf-8", newline="")))
    images = sorted(path.name for path in (tmp_path / "set").glob("*.png"))
    assert rows[0] == ["file", "caption"] and [row[0] for row in rows[1:]] == images and images


@pytest.mark.parametrize("package", ["checks", "exchange", "commands"])
def test_every_module_is_named_and_exists(package):
    text = (ROOT / "pipeline" / package / "README.md").read_text(encoding="utf-8")
    modules = {path.name for path in (ROOT / "pipeline" / package).glob("[a-z]*.py")}
    assert modules == set(re.findall(r"`([a-z_0-9]+\.py)`", text))
