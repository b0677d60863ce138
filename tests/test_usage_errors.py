from __future__ import annotations

import pytest

from tests.shell import prep


@pytest.mark.parametrize(
    ("typed", "wrong", "hint"),
    [
        ("train --steps x", "--steps is 'x'; it must be a whole number.", "See: prep train --help"),
        ("crop --focus fase", "--focus is 'fase'; it must be one of: ", "See: prep crop --help"),
        ("preview --page 0", "--page is '0'; it must be a whole number of at least 1.", "See: prep preview --help"),
        ("init --subject a", "--subject needs 3 values.", "Give: prep init --subject TOKEN CLASS FOLDER"),
        ("crop --resolution", "--resolution needs a value.", "Give: prep crop --resolution N"),
        ("staus", "prep has no command 'staus'.", "Did you mean: prep status"),
        ("models pul", "prep models has no command 'pul'.", "Did you mean: prep models pull"),
        ("tag nothing", "prep tag has no tagger 'nothing'.", "It has: basic, wd14"),
        ("models pull", "prep models pull needs NAME.", "See: prep models pull --help"),
        ("build extra", "prep build takes no 'extra'.", "See: prep build --help"),
        ("--bogus", "--bogus is not an option of prep.", "prep --help lists the options."),
        ("tag wd14 --modl x", "--modl is not an option of prep tag wd14.", "Did you mean --model?"),
        ("train -z", "-z is not an option of prep train.", "prep train --help"),
        ("train --compile=maybe", "--compile is 'maybe'; it must be one of: ", "See: prep train --help"),
        ("build --json=1", "Option '--json' does not take a value.", "See: prep build --help"),
    ],
)
def test_a_mistake_is_one_sentence_and_a_hint(typed, wrong, hint):
    shown = prep(*typed.split(), code=2).stderr.splitlines()
    assert len(shown) == 2 and shown[0].startswith(f"prep: {wrong}") and shown[1].startswith(f"      {hint}")


def test_all_options_of_another_tool_are_answered_at_once():
    typed = "train --network_dim 8 --network_alpha=4 --steps 4 --cache_latents --lr_warmup_steps 100"
    assert prep(*typed.split(), code=2).stderr.splitlines() == [
        "prep: --network_dim is --rank here.",
        "      --network_alpha is --alpha here.",
        "      prep train has no option --cache_latents.",
        "      --lr_warmup_steps is --lr-warmup here.",
        "      Give: prep train --rank 8 --alpha 4 --lr-warmup",
        "      --lr-warmup: a share of all steps, such as 0.1",
        "      prep always caches latents, on disk.",
    ]
