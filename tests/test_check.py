"""prep check and the guard before training, as a user meets them."""

from __future__ import annotations

import json
import shlex

import pytest
from click.testing import CliRunner

from pipeline.checks.check import check, raise_on_errors
from pipeline.checks.finding import Finding
from pipeline.checks.rule_context import TrainingTargets
from pipeline.cli.check import check as command
from pipeline.cli.check_output import finding_lines, summary_line
from pipeline.errors import PrepError
from pipeline.filter import parse
from pipeline.manifest import Manifest
from pipeline.workspace import Workspace
from tests.checking import good, written
from tests.make import workspace as make_workspace
from tests.shell import prep


@pytest.fixture
def faulty(tmp_path):
    """A workspace whose captions have an error, a warning and a note."""
    workspace = make_workspace(tmp_path)
    records = [good(n) for n in range(6)]
    records += [good(6, caption="hat, street 6"), good(7, caption="smthx, hat\nstreet"), good(8, caption="smthx, , a")]
    written(workspace.root, records)
    return workspace


def run(workspace, *args):
    return CliRunner(env={"COLUMNS": "110"}).invoke(command, list(args), obj=workspace.root)


def test_findings_worst_first_and_the_exit_code(faulty):
    done = run(faulty, "--no-measure")
    assert done.exit_code == 1
    shown = done.output.splitlines()
    assert [line.split("  ")[0] for line in shown if line[:1].isalnum()] == [
        "error",
        "warning",
        "note",
        "1 error, 1 warning, 1 note in manifests/merge.parquet",
    ]
    assert "          raw/6.jpg" in shown and '          -> prep edit NAME --set "..."' in shown


def test_hints_of_missing_triggers_mean_the_images_of_the_finding(faulty):
    rows = [json.loads(line) for line in run(faulty, "--no-measure", "--json").output.splitlines()]
    command = shlex.split(rows[0]["hint"])
    assert command[:3] == ["prep", "edit", "--filter"] and command[4:] == ["--add", "smthx"]
    meant = [r.source for r in Manifest.read(faulty.manifest("merge")).records() if parse(command[3]).matches(r)]
    assert meant == rows[0]["images"]


def test_json_is_a_line_a_finding(faulty):
    rows = [json.loads(line) for line in run(faulty, "--no-measure", "--json").output.splitlines()]
    assert [row["severity"] for row in rows] == ["error", "warning", "note"]
    assert rows[0] == {
        "severity": "error",
        "rule": "trigger missing",
        "message": rows[0]["message"],
        "count": 1,
        "images": ["raw/6.jpg"],
        "hint": "prep edit --filter 'subject:smthx NOT role:reg NOT caption:smthx' --add smthx",
    }


def test_strict_counts_warnings(tmp_path):
    workspace = make_workspace(tmp_path)
    written(workspace.root, [*(good(n) for n in range(6)), good(7, caption="smthx, hat\nstreet")])
    assert [run(workspace, "--no-measure", *more).exit_code for more in ((), ("--strict",))] == [0, 1]
    written(workspace.root, [good(n) for n in range(6)])
    done = run(workspace, "--no-measure", "--strict")
    assert (done.exit_code, done.output) == (0, "Nothing wrong in manifests/merge.parquet\n")


def test_nothing_to_check_yet(tmp_path):
    done = prep("-C", make_workspace(tmp_path).root, "check", code=1)
    assert "There are no captions to check yet." in done.stderr and "First: prep merge" in done.stderr


def test_what_others_wrote_commands_no_terminal():
    found = [Finding("error", "r", "m", 1, ("a\x1b[31mb\n.png",), "f")]
    text = "\n".join(finding_lines(found, 80))
    assert "\x1b[31mb" not in text and "a\\x1b[31mb\\n.png" in text


def test_lines_fit_and_names_hold_together():
    names = tuple(f"../../images of mine/smith/a name with spaces {n}.jpg" for n in range(20))
    found = [Finding("warning", "rule", "A message. " * 12, 25, names, "prep edit NAME " * 9)]
    shown = list(finding_lines(found, 60))
    assert shown[0] == "Images are named relative to ../../images of mine/smith/"
    assert max(map(len, shown[2:])) <= 60 + len("\x1b[2m\x1b[0m")
    assert all(f"a name with spaces {n}.jpg" in "\n".join(shown) for n in range(20))
    assert summary_line(found, "x") == "1 warning in x"


def test_training_is_refused_on_errors_alone(tmp_path, caplog):
    def reported(*captions):
        records = [*(good(n) for n in range(6)), *(good(n, caption=text) for n, text in enumerate(captions, 6))]
        return check(written(tmp_path, records), Workspace(tmp_path), TrainingTargets())

    raise_on_errors(reported())
    assert not caplog.records
    raise_on_errors(reported("smthx, hat\nstreet"))
    assert [one.getMessage() for one in caplog.records] == ["prep check has 1 warning about the dataset"]
    with pytest.raises(PrepError) as error:
        raise_on_errors(reported("hat", "smthx, hat\nstreet", ""))
    assert error.value.wrong == "The dataset should not be trained on: empty caption (1), trigger missing (2)."
    assert "--skip-checks" in error.value.hint


def test_a_plan_without_images(tmp_path):
    (one,) = check(written(tmp_path, [good(0, image=None)]), Workspace(tmp_path))
    assert (one.severity, one.rule) == ("error", "no images")
