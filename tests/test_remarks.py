"""Remarks on prompts: one where something is read otherwise than it seems meant, none for what is right."""

from __future__ import annotations

import pytest

from training.sampling.prompt.remarks import remark_on_negative, remark_on_prompt


@pytest.mark.parametrize(
    "prompt",
    ["", "a cat", "(a:1.2), [b], [c:d:0.5] AND x BREAK y", "[a|b]", r"smith \(series\)", "<lora:x:1>", "a | b"],
)
def test_prompts_without_a_remark(prompt):
    assert not remark_on_prompt(prompt)
    assert not remark_on_negative(prompt.replace("AND", "").replace("<lora:x:1>", ""))


@pytest.mark.parametrize(
    ("prompt", "word"),
    [
        ("(a", "("),
        ("a)", ")"),
        ("[a|b], c|d", "bar"),
        ("[a:b:3] \\", "backslash"),
        ("(a:1,2)", "comma"),
        ("(a BREAK b)", "BREAK"),
        ("<foo:x>", "<foo:x>"),
    ],
)
def test_prompts_with_one(prompt, word):
    assert word in remark_on_prompt(prompt)


@pytest.mark.parametrize("negative", ["a AND b", "a <lora:x:1>"])
def test_what_has_no_effect_in_a_negative_prompt(negative):
    assert remark_on_negative(negative)
