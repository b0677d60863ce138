"""The option --control: its syntax, its mistakes, and its text in an image's parameters."""

from __future__ import annotations

import pytest

from pipeline.errors import PrepError
from training.sampling.control.request import ControlRequest, parse_control


def test_the_defaults_are_those_of_webui():
    found = parse_control("canny=photo.png")
    assert found == ControlRequest(kind="canny", image="photo.png")
    assert (found.weight, found.start, found.end, found.mode, found.resize, found.resolution) == (
        1.0, 0.0, 1.0, "balanced", "crop", 512,
    )  # fmt: skip


def test_all_options():
    text = "Soft Edge=a, b=c.png,model=x/y,weight=0.8,start=0.1,end=0.7,mode=My prompt is more important,resize=fill"
    found = parse_control(f"{text},resolution=0,low=50,high=80,map=no")
    assert found == ControlRequest(
        kind="hed", image="a, b=c.png", model="x/y", weight=0.8, start=0.1, end=0.7, mode="prompt", resize="fill",
        resolution=0, low=50, high=80, map=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("canny", "KIND=IMAGE"),
        ("canny=", "KIND=IMAGE"),
        ("cany=a.png", "Did you mean 'canny'"),
        ("canny=a.png,weight=much", "must be a number"),
        ("canny=a.png,weight=3", "from 0 to 2"),
        ("canny=a.png,weight=nan", "from 0 to 2"),
        ("canny=a.png,start=0.5,end=0.5", "before the end"),
        ("canny=a.png,mode=strong", "no control mode"),
        ("canny=a.png,map=maybe", "yes, or no"),
    ],
)
def test_mistakes_are_named(text, words):
    with pytest.raises(PrepError) as caught:
        parse_control(text)
    assert words in str(caught.value)


def test_the_text_of_a_unit_reads_as_webuis():
    text = parse_control("canny=a.png,weight=0.8,mode=control").infotext("c [12345678]", 100, 200)
    assert text == (
        "Module: canny, Model: c [12345678], Weight: 0.8, Resize Mode: Crop and Resize, Processor Res: 512, "
        "Threshold A: 100, Threshold B: 200, Guidance Start: 0, Guidance End: 1, Pixel Perfect: False, "
        "Control Mode: ControlNet is more important"
    )
