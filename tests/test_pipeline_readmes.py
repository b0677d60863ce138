"""The examples in the READMEs of pipeline/ run as they are written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.manifest import write_manifest
from pipeline.record import Record
from pipeline.stage import Stage
from pipeline.workspace import Workspace
from tests.toy import Toy

ROOT = Path(__file__).resolve().parent.parent


def example(readme, number=0):
    """The Python code of the numbered block of a README."""
    return re.findall(r"```python\n(.*?)```", (ROOT / readme).read_text(encoding="utf-8"), re.DOTALL)[number]


def records(count):
    return [Record(f"{n:016x}", f"{n}.png", f"{n:064x}", "smith", "man", "train") for n in range(count)]


def test_the_example_command_counts(tmp_path):
    names = {}
    exec(example("pipeline/cli/README.md"), names)
    (tmp_path / "prep.toml").touch()
    write_manifest(Workspace(tmp_path).manifest("build"), [records(3)], ())
    names["workspace_here"] = lambda: Workspace(tmp_path)
    assert CliRunner().invoke(names["count"], []).output == "3 images\n"
    assert CliRunner().invoke(names["count"], ["--json"]).output == '{"images": 3}\n'
    (entry,) = re.findall(r'CommandEntry\("count", "(\w+):(\w+)", "(.*)"\)', example("pipeline/cli/README.md", 1))
    assert entry == ("count", "count", names["count"].help)


def test_the_example_engine_runs_a_stage(tmp_path):
    names = {"Stage": Stage, "Iterable": Iterable, "Iterator": Iterator, "Record": Record, "Workspace": Workspace}
    exec(example("pipeline/engines/README.md"), names)
    batches = [records(9)[:4], records(9)[4:]]
    work = Toy().start(Workspace(tmp_path))
    assert list(names["run"](Toy(), batches, Workspace(tmp_path), 0)) == [work(batch) for batch in batches]


@pytest.mark.parametrize("readme", ["pipeline/README.md", "pipeline/cli/README.md", "pipeline/engines/README.md"])
def test_every_module_a_readme_names_exists(readme):
    folder = (ROOT / readme).parent
    named = set(re.findall(r"`([a-z_/0-9]+\.py)`", (ROOT / readme).read_text(encoding="utf-8")))
    assert len(named) > 2
    assert not {name for name in named if not (folder / name).is_file() and not (ROOT / name).is_file()}


def test_the_readme_lists_every_module():
    text = (ROOT / "pipeline" / "README.md").read_text(encoding="utf-8")
    assert not {path.name for path in (ROOT / "pipeline").glob("[a-z]*.py") if f"`{path.name}`" not in text}
    path = (ROOT / "pipeline" / "README.md").read_text(encoding="utf-8").partition("## One image")[2]
    assert len(re.findall(r"^\d+\. ", path.partition("## ")[0], re.MULTILINE)) <= 12
