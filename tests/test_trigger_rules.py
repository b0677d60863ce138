from __future__ import annotations

from dataclasses import replace

import pytest

from tests.checking import found, good


@pytest.mark.parametrize(
    ("token", "rules"),
    [
        ("smthx", set()),
        ("sks", set()),  # a token of its own, and a rare one
        ("smith", {"trigger is a common word"}),
        ("blue bird", {"trigger is a common word"}),
        ("x7q9k2", {"trigger splits badly"}),
        ("man", {"trigger is a common word", "trigger is the class"}),
    ],
)
def test_triggers(tmp_path, token, rules):
    records = [replace(good(n), subject=token, caption=f"{token}, street {n}") for n in range(8)]
    reported = found(tmp_path, records)
    assert set(reported) == rules
    assert all(finding.count == 0 and finding.severity == "warning" for finding in reported.values())


def test_messages_explain(tmp_path):
    records = [replace(good(n), subject="smith", caption=f"smith, street {n}") for n in range(8)]
    assert "(number 2,915 of 49,408 by frequency)" in found(tmp_path, records)["trigger is a common word"].message
    records = [replace(good(n), subject="x7q9k2", caption=f"x7q9k2, street {n}") for n in range(8)]
    assert "6 CLIP tokens (x, 7, q, 9, k, 2)" in found(tmp_path, records)["trigger splits badly"].message
