"""prep runs: what it tells of the runs of a workspace, and what pruning deletes."""

from __future__ import annotations

import json

import pytest

from pipeline.commands.runs import delete_all, list_runs, plan_deletions
from pipeline.errors import PrepError
from pipeline.history import HistoryStep, Model
from tests.make import workspace
from tests.shell import prep


def write_run(work, name, *, finished=True, **params):
    folder = work.runs / name
    state = folder / "checkpoints" / "k" / "step-00000006"
    state.mkdir(parents=True)
    (state / "state.safetensors").write_bytes(b"x" * 100)
    step = HistoryStep("train", 2, {"rank": 4, "seed": 0} | params, "d" * 64, (Model("sd15", "a" * 64),))
    (folder / "settings.json").write_text(json.dumps({"key": "k", "step": step.to_json()}))
    if finished:
        (folder / "me.safetensors").write_bytes(b"y" * 50)
        (folder / "me-000001.safetensors").write_bytes(b"z" * 7)
        summary = {
            "files": ["me.safetensors"],
            "steps": 6,
            "metadata": {"ss_steps": "6"},
            "loss": {"first": 0.5, "last": 0.25, "steps": 1},
            "validation": [{"step": 6, "verdict": "good"}],
        }
        (folder / "run.json").write_text(json.dumps(summary))


@pytest.fixture
def work(tmp_path):
    found = workspace(tmp_path / "ws")
    write_run(found, "me", rank=8)
    write_run(found, "me-1", learning_rate=2e-5)
    write_run(found, "me-2", finished=False, learning_rate=1e-4)
    for name in ("latents", "bases"):
        (found.cache / name).mkdir(parents=True)
        (found.cache / name / "one").write_bytes(b"w" * 30)
    return found


def test_runs_tell_their_settings_results_and_sizes(work):
    me, first, second = list_runs(work)
    assert [run.name for run in (me, first, second)] == ["me", "me-1", "me-2"]
    assert (me.finished, me.steps, me.loss, me.verdict, me.states) == (True, 6, 0.25, "good", 100)
    assert me.files == {"runs/me/me.safetensors": 50, "runs/me/me-000001.safetensors": 7}
    assert me.settings == {"rank": "8"} and second.settings == {"rank": "4", "learning_rate": "0.0001"}
    assert (second.finished, second.steps, second.loss, second.files) == (False, 6, None, {})


def left(work):
    return {path.relative_to(work.root).as_posix() for path in work.root.rglob("*") if path.is_file()}


def test_pruning_takes_states_of_finished_runs_and_caches_unless_more_is_asked(work):
    states = {f"runs/{name}/checkpoints/k/step-00000006/state.safetensors" for name in ("me", "me-1", "me-2")}
    before, kept = left(work), {state for state in states if "me-2" in state}
    planned = plan_deletions(work, (), unfinished=False)
    assert sum(deletion.size for deletion in planned) == 230 and left(work) == before
    delete_all(planned)
    assert left(work) == before - (states - kept) - {"cache/latents/one"}
    delete_all(plan_deletions(work, ["me-1"], unfinished=True))
    assert not (work.runs / "me-1").exists() and not kept & left(work)
    assert (work.runs / "me" / "me.safetensors").exists()
    assert plan_deletions(work, (), unfinished=True) == []
    with pytest.raises(PrepError, match="There is no run me-1"):
        plan_deletions(work, ["me-1"], unfinished=False)


def test_the_command_shows_first_and_asks(work):
    said = prep("-C", work.root, "runs").stdout
    assert "me-2" in said and "not finished" in said and "dddddddd" in said and "rank 8" in said
    rows = [json.loads(line) for line in prep("-C", work.root, "runs", "--json").stdout.splitlines()]
    assert [row["name"] for row in rows] == ["me", "me-1", "me-2"]
    before = left(work)
    refused = prep("-C", work.root, "runs", "prune", code=1)
    assert "runs/me/checkpoints" in refused.stdout and "prep runs prune --yes" in refused.stderr
    assert left(work) - before <= {"cache/lock"}
    refused = prep("-C", work.root, "runs", "prune", "--json", code=1)
    assert not refused.stdout and "--yes" in refused.stderr and left(work) - before <= {"cache/lock"}
    prep("-C", work.root, "runs", "prune", "--yes")
    assert not (work.runs / "me" / "checkpoints").exists() and (work.runs / "me-2" / "checkpoints").exists()


def test_a_workspace_without_runs(tmp_path):
    work = workspace(tmp_path / "ws")
    assert prep("-C", work.root, "runs").stdout == "No run yet. Make one: prep train\n"
    assert plan_deletions(work, (), unfinished=True) == []
