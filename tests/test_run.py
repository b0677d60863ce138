from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import partial_results
from pipeline.engines import local, ray_data
from pipeline.errors import PrepError
from pipeline.execution import RunSettings
from pipeline.history import HistoryStep
from pipeline.manifest import Manifest, write_manifest
from pipeline.record import Drop
from pipeline.registry import StagePlan
from pipeline.run import update_stage
from pipeline.staleness import why_stale
from tests.make import LOCAL, record, tag, workspace
from tests.toy import Toy, run_toy


def setting(tmp_path, count=60):
    """A workspace and a manifest of fresh records; every seventh was dropped before."""
    home = workspace(tmp_path)
    rows = [record(n, crop=None, image=None) for n in range(count)]
    rows = [dataclasses.replace(r, drop=Drop("scan", "duplicate")) if n % 7 == 3 else r for n, r in enumerate(rows)]
    source = write_manifest(
        home.manifest("sources"), [sorted(rows, key=lambda r: r.id)], (HistoryStep("scan", 1, {}, "x"),)
    )
    return home, source


def worked(home):
    return (home.root / "worked").read_text().split() if (home.root / "worked").exists() else []


def test_every_record_is_worked_on_once_and_accounted_for(tmp_path):
    home, source = setting(tmp_path)
    outcome = run_toy(Toy(), source, home)
    before, after = list(source.records()), list(outcome.manifest.records())
    kept = [r for r in before if r.kept]
    assert sorted(worked(home)) == [r.id for r in kept]
    assert {r.id for r in after if not r.origin} == {r.id for r in before}
    assert all(r.caption == "hello" for r in after if r.kept)
    assert [r.id for r in after if r.origin] == [f"{r.id}-1" for r in kept if r.id.endswith("1")]
    counts = outcome.counts
    assert counts.dropped == {
        "duplicate": len(before) - len(kept),
        "ends in 0": sum(r.id.endswith("0") for r in kept),
    }
    assert counts.found == len(before) == counts.kept + sum(counts.dropped.values())
    assert outcome.manifest.history[:1] == source.history


def test_nothing_changed_nothing_done(tmp_path):
    home, source = setting(tmp_path)
    first = run_toy(Toy(), source, home)
    again = run_toy(Toy(slow=0.01), source, home)  # an option that cannot change the result
    assert (first.worked, again.worked) == (True, False)
    assert again.manifest == first.manifest
    assert (home.root / "starts").read_text().count("\n") == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"stage": dataclasses.make_dataclass("Later", [], bases=(Toy,), namespace={"version": 2}, frozen=True)()},
            "this version of prep changed crop",
        ),
        ({"stage": Toy(word="bye")}, "word was hello, is now bye"),
        ({"input": "other"}, "sources changed"),
    ],
)
def test_stale_says_why(tmp_path, change, why):
    home, source = setting(tmp_path)
    done = run_toy(Toy(), source, home).manifest
    plan = StagePlan("crop", (change.get("stage", Toy()),))
    if "input" in change:
        rows = list(source.records())[1:]
        source = write_manifest(home.manifest("sources"), [rows], source.history)
    assert why in why_stale(plan, done, source, home)


def test_a_damaged_manifest_is_made_again(tmp_path):
    home, source = setting(tmp_path)
    first = run_toy(Toy(), source, home).manifest
    first.path.write_bytes(first.path.read_bytes()[:500])
    assert run_toy(Toy(), source, home).manifest.digest == first.digest


def test_a_failure_keeps_what_was_done(tmp_path, monkeypatch):
    monkeypatch.setattr(partial_results, "_SECONDS", 0.0)
    home, source = setting(tmp_path)
    kept = [r.id for r in source.records() if r.kept]
    with pytest.raises(PrepError, match="The toy broke"):
        run_toy(Toy(fail=kept[40]), source, home, RunSettings(local.run, 1, quiet=True))
    assert not home.manifest("crop").exists()
    done = worked(home)
    outcome = run_toy(Toy(), source, home)
    again = worked(home)[len(done) :]
    assert outcome.worked
    assert 0 < len(again) < len(kept) - 30  # the finished batches were not worked on again
    assert set(again) | set(done) == set(kept)
    assert not list((home.root / "manifests" / ".parts").glob("*"))
    undisturbed = run_toy(Toy(), source, workspace(tmp_path / "other")).manifest
    assert outcome.manifest.digest == undisturbed.digest


def test_parts_of_other_options_are_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(partial_results, "_SECONDS", 0.0)
    home, source = setting(tmp_path)
    kept = [r.id for r in source.records() if r.kept]
    with pytest.raises(PrepError):
        run_toy(Toy(word="old", fail=kept[40]), source, home)
    after = run_toy(Toy(word="new"), source, home).manifest
    assert {r.caption for r in after.records() if r.kept} == {"new"}


def test_a_broken_part_is_not_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr(partial_results, "_SECONDS", 0.0)
    home, source = setting(tmp_path)
    kept = [r.id for r in source.records() if r.kept]
    with pytest.raises(PrepError):
        run_toy(Toy(fail=kept[40]), source, home)
    files = sorted((home.root / "manifests" / ".parts").rglob("*.parquet"))
    files[1].write_bytes(b"PAR1")
    undisturbed = run_toy(Toy(), source, workspace(tmp_path / "other")).manifest
    assert run_toy(Toy(), source, home).manifest.digest == undisturbed.digest


def test_a_stage_that_loses_a_record_is_a_bug(tmp_path):
    class Leaky(Toy):
        def start(self, workspace):
            return lambda records: records[1:]

    home, source = setting(tmp_path)
    with pytest.raises(AssertionError, match="lost or invented"):
        run_toy(Leaky(), source, home)


def test_taggers_side_by_side_are_joined_and_run_alone(tmp_path):
    home, source = setting(tmp_path, 30)
    one, two = _says("one"), _says("two")
    joined = update_stage(StagePlan("tag", (one, two), joined=True), source, home, LOCAL)
    said = {tuple(a.text for a in r.annotations) for r in joined.manifest.records() if r.kept}
    assert said == {("one", "two")}
    assert [step.stage for step in joined.manifest.history] == ["scan", "one", "two"]
    assert not update_stage(StagePlan("tag", (one, two), joined=True), source, home, LOCAL).worked
    both = update_stage(StagePlan("tag", (two,), joined=True), source, home, LOCAL)  # one less: nothing is tagged again
    assert {tuple(a.text for a in r.annotations) for r in both.manifest.records() if r.kept} == {("two",)}
    assert (home.root / "starts").read_text().split() == ["one", "two"]


def _says(word):
    class Says(Toy):
        name = word

        def start(self, workspace):
            with (workspace.root / "starts").open("a") as file:
                file.write(f"{word}\n")
            return lambda rs: [dataclasses.replace(r, annotations=(*r.annotations, tag(word, by=word))) for r in rs]

    return Says()


SLOW = """
import sys; from pathlib import Path
from pipeline import partial_results; partial_results._SECONDS = 0.0
from pipeline.manifest import Manifest; from pipeline.workspace import Workspace
from tests.toy import Toy, run_toy
home = Workspace(Path(sys.argv[1]))
run_toy(Toy(slow=0.05), Manifest.read(home.manifest("sources")), home)
"""


def test_kill_9_at_any_moment_then_the_same_command(tmp_path):
    undisturbed = run_toy(Toy(), *setting(tmp_path / "calm", 120)[::-1]).manifest
    home, source = setting(tmp_path / "rough", 120)
    for moment in (1, 4, 9):  # batches after which the process is shot
        process = subprocess.Popen([sys.executable, "-c", SLOW, str(home.root)], cwd=Path(__file__).parent.parent)
        before = len(worked(home))
        while process.poll() is None and len(worked(home)) < before + 4 * moment:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not home.manifest("crop").exists()
    survived = run_toy(Toy(), source, home).manifest
    assert survived.digest == undisturbed.digest
    assert len(worked(home)) < 2 * 120  # three crashes did not mean three times the work
    assert not list((home.root / "manifests").glob(".*.tmp"))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_digest_knows_no_number_of_workers(tmp_path, workers):
    one = run_toy(Toy(), *setting(tmp_path / "a")[::-1], RunSettings(local.run, 1, True)).manifest
    many = run_toy(Toy(), *setting(tmp_path / "b")[::-1], RunSettings(local.run, workers, True)).manifest
    assert many.digest == one.digest


def test_ray_gives_the_same_digest(tmp_path):
    pytest.importorskip("ray")
    here = run_toy(Toy(), *setting(tmp_path / "a")[::-1]).manifest
    home, source = setting(tmp_path / "b")
    there = run_toy(Toy(), source, home, RunSettings(ray_data.run, 2, True)).manifest
    assert there.digest == here.digest
    assert 1 <= len((home.root / "starts").read_text().split()) <= 2  # one start per actor
    with pytest.raises(PrepError, match="The toy broke"):
        kept = [r.id for r in source.records() if r.kept]
        run_toy(Toy(word="x", fail=kept[3]), source, home, RunSettings(ray_data.run, 2, True))


def test_manifest_digests_do_not_depend_on_time_or_place(tmp_path):
    one = run_toy(Toy(), *setting(tmp_path / "a")[::-1]).manifest
    time.sleep(0.01)
    two = run_toy(Toy(), *setting(tmp_path / "deep" / "b")[::-1]).manifest
    assert one.digest == two.digest
    assert Manifest.read(one.path).digest == one.digest
