"""What is told of a finished run, from its run.json."""

from __future__ import annotations

import json

import pytest

from training.evaluation.run_notes import run_notes


def summary(folder, judged, result="last", suspects=()):
    file = folder / "run.json"
    validation = [{"step": 0, "train": 1.0, "validation": 1.0, "reg": None}]
    validation += [{"step": s, "verdict": word, "reason": f"why {s}", "best": best} for s, word, best in judged]
    file.write_text(
        json.dumps({"train": {"keep_weights": result}, "validation": validation, "outliers": list(suspects)})
    )
    return run_notes(file)


def test_verdicts_with_their_reasons(tmp_path):
    judged = [(100, "underfit", False), (1200, "good", True), (1300, "overfit", False)]
    assert summary(tmp_path, judged) == (
        "step 100: underfit; why 100",
        "step 1,200: good; why 1200",
        "step 1,300: overfit; why 1300",
        "the file has the weights of the last step; for those of step 1,200: prep train --keep-weights best",
    )
    other = "the file has the weights of step 1,200; for those of the last step: prep train --keep-weights last"
    for result in ("best", "auto"):
        assert summary(tmp_path, judged, result) == (*summary(tmp_path, judged)[:3], other)
    assert len(summary(tmp_path, judged[:2])) == 2


def test_of_many_the_latest_and_the_best(tmp_path):
    judged = [(k, "overfit", k == 3) for k in range(1, 40)]
    assert [line.partition(": ")[0] for line in summary(tmp_path, judged, "best")] == [
        "step 3",
        *(f"step {k}" for k in range(32, 40)),
        "the file has the weights of step 3; for those of the last step",
    ]


def test_suspects(tmp_path):
    found = summary(tmp_path, [], suspects=[{"id": "1", "name": "raw/a.jpg", "reason": "3.1 times the median"}])
    assert found == ("outlier: raw/a.jpg: 3.1 times the median",)


@pytest.mark.parametrize("text", [None, "", "{", "{}"])
def test_without_a_summary_there_is_nothing(tmp_path, text):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    assert run_notes(tmp_path / "run.json") == ()
