"""The GPU benchmark on the CPU with narrow models: it runs, and its rows and goals are right."""

from __future__ import annotations

import json

import pytest

from benchmarks import train_gpu

SHORT = ["train_gpu.py", "--tiny", "--models", "sd1", "--batch-sizes", "1", "--rounds", "2", "--seconds", "0"]


def test_it_runs_and_writes_what_it_prints(tmp_path, monkeypatch, capsys):
    file = tmp_path / "figures.json"
    arguments = [
        "--tiny",
        "--models",
        "sdxl",
        "--batch-sizes",
        "2",
        "--rounds",
        "2",
        "--seconds",
        "0",
        "--json",
        str(file),
    ]
    monkeypatch.setattr("sys.argv", ["train_gpu.py", *arguments])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    train_gpu.main()
    figures = json.loads(file.read_text())
    rows = {row["contender"]: row for row in figures["rows"]}
    assert list(rows) == ["shipped", "matched", "prep"]
    assert figures["tiny"]
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 + 3
    assert "narrow models: a test, not a measurement" in printed[0]
    assert not any("goal" in line for line in printed)
    assert printed[4].endswith("; syncs: not measured")
    for row in rows.values():
        low, high = row["quartiles"]
        assert 0 < low <= row["images_per_second"] <= high
        ratio = rows["prep"]["images_per_second"] / row["images_per_second"]
        assert row["speedup"] == pytest.approx(ratio)
        assert row["tflops"] / row["images_per_second"] == pytest.approx(
            rows["prep"]["tflops"] / rows["prep"]["images_per_second"]
        )


def test_full_size_needs_a_gpu(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["train_gpu.py"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        train_gpu.main()
    assert "torch finds no GPU" in capsys.readouterr().err


def test_rows_of_full_size_have_goals():
    row = {
        "model": "sdxl",
        "batch_size": 1,
        "contender": "prep",
        "images_per_second": 14.0,
        "quartiles": [13.5, 14.25],
        "tflops": 204.1,
        "gib": 10.5,
        "syncs": "0",
        "mode": "with CUDA graphs",
        "speedup": 1.0,
    }
    assert train_gpu.format_row(row, True).endswith("with CUDA graphs; syncs: 0; goal: 12")
    shipped = row | {"contender": "shipped", "speedup": 3.25}
    assert train_gpu.format_row(shipped, True).endswith("prep is 3.25x as fast; goal: 3.0")


def test_a_contender_that_fails_is_reported_and_the_rest_is_measured(monkeypatch, capsys):
    def absent(setting):
        raise ImportError("cannot import name 'LoraConfig'")

    monkeypatch.setitem(train_gpu.CONTENDERS, "shipped", absent)
    monkeypatch.setattr("sys.argv", SHORT)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    train_gpu.main()
    printed = capsys.readouterr().out.splitlines()
    assert printed[2] == "sd1 1: shipped does not run here: ImportError: cannot import name 'LoraConfig'"
    assert [line.split()[2] for line in printed[3:]] == ["matched", "prep"]


def test_without_prep_there_is_nothing_to_compare_with(monkeypatch, capsys):
    monkeypatch.setitem(train_gpu.CONTENDERS, "prep", lambda setting: int("no number"))
    monkeypatch.setattr("sys.argv", SHORT)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    train_gpu.main()
    assert "x as fast" not in capsys.readouterr().out
