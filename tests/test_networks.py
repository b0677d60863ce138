"""Networks in prompts, in the forms that WebUI knows."""

from __future__ import annotations

import pytest

from pipeline.errors import PrepError
from training.sampling.prompt.networks import NetworkTag, take_networks


@pytest.mark.parametrize(
    ("tag", "network"),
    [
        ("<lora:tom>", NetworkTag("lora", "tom")),
        ("<lora:tom:0.8>", NetworkTag("lora", "tom", 0.8, 0.8)),
        ("<lyco:tom:-0.5>", NetworkTag("lora", "tom", -0.5, -0.5)),
        ("<lora:tom:0.5:1>", NetworkTag("lora", "tom", 0.5, 1.0)),
        ("<lora:tom:0.5:1:8>", NetworkTag("lora", "tom", 0.5, 1.0, 8)),
        ("<lora:tom:te=0.5:unet=2:dyn=4>", NetworkTag("lora", "tom", 0.5, 2.0, 4)),
        ("<lora:tom:unet=2>", NetworkTag("lora", "tom", 1.0, 2.0)),
        ("<lora:tom:te=0.3>", NetworkTag("lora", "tom", 0.3, 0.3)),
        ("<hypernet:ink:0.7>", NetworkTag("hypernet", "ink", 0.7, 0.7)),
    ],
)
def test_forms(tag, network):
    assert take_networks(tag).networks == (network,)


def test_only_the_tags_leave():
    found = take_networks("a, <lora:x:1>, b <hypernet:y> <foo:z> <lora x> <3 a<b")
    assert found.text == "a, , b   <lora x> <3 a<b"
    assert [network.name for network in found.networks] == ["x", "y"]
    assert found.unknown == ("<foo:z>",)


@pytest.mark.parametrize(
    "tag",
    [
        *["<lora:x:high>", "<lora::1>", "<lora:te=1>", "<lora:x:1:2:3:4>", "<lora:x:lbw=1>", "<hypernet:x:1:2>"],
        *["<lora:x:nan>", "<lora:x:1:1:0>"],
    ],
)
def test_tags_that_say_nothing_usable(tag):
    with pytest.raises(PrepError):
        take_networks(f"a {tag}")
