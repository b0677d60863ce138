"""AND and its weights against worked examples of AUTOMATIC1111's WebUI 1.10."""

from __future__ import annotations

import pytest

from training.sampling.prompt.composition import split_parts


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a AND b:0.5 AND c : -1", [("a", 1.0), (" b", 0.5), (" c", -1.0)]),
        ("a:1.2 AND b", [("a", 1.2), (" b", 1.0)]),
        ("(a AND b:1.2)", [("(a", 1.0), (" b:1.2)", 1.0)]),
        ("cat:1.2", [("cat", 1.2)]),
        ("cat:.5 ", [("cat", 0.5)]),
        ("cat:3.", [("cat", 3.0)]),
        ("a:1:2", [("a:1", 2.0)]),
        ("(cat:1.2)", [("(cat:1.2)", 1.0)]),
        ("sand AND: 2", [("sand", 1.0), ("", 2.0)]),
        ("sANDy BRAND and", [("sANDy BRAND and", 1.0)]),
        ("a\nb : 0.7\n", [("a\nb", 0.7)]),
        ("ratio 16:9", [("ratio 16", 9.0)]),
        ("a:", [("a:", 1.0)]),
        ("", [("", 1.0)]),
    ],
)
def test_by_hand(prompt, parts):
    assert [(part.text, part.weight) for part in split_parts(prompt)] == parts
