"""The page of prep report train: what it shows of a run, and of which run."""

from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner
from PIL import Image

from pipeline.cli.main import cli
from pipeline.errors import PrepError
from pipeline.html.document import render_document
from pipeline.parquet_rows import write_rows
from pipeline.report.run_data import find_run, read_run
from pipeline.report.run_page import run_page, sample_rows, shown_steps, write_run_report
from tests.browser import CHROMIUM, browser
from tests.html_reader import HtmlReader
from tests.make import workspace
from tests.training_options import train_options
from training.evaluation.outliers import Outlier
from training.sampling.sample_callback import SampleResult

EVIL = "<script>alert(1)</script>"
JUDGED = {"verdict": "good", "reason": "error 90.0% of the base model's; the lowest", "best": True}


def ignore(done, total):
    """Report to nobody."""


def sample(step, number, prompt="photo of smith man", **changes):
    usual = {"negative": "", "width": 64, "height": 64, "steps": 25, "guidance_scale": 7.0, "seed": 41 + number}
    usual |= {"file": f"samples/step-{step:08d}/{number:02d}.png", "clip_prompt": 0.281, "clip_subject": None}
    return SampleResult(step=step, number=number, prompt=prompt, **usual | changes)


def make_run(space, name="smith", steps=(0, 10, 20), prompts=("photo of smith man", "photo of a man"), **results):
    """A finished run with samples of one color each."""
    folder = space.runs / name
    rows = [sample(step, number, prompt) for step in steps for number, prompt in enumerate(prompts, 1)]
    for row in rows:
        path = folder / row.file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (row.step % 256, 90, 40 * row.number)).save(path)
    write_rows(folder / "samples.parquet", rows, SampleResult, {})
    outlier = Outlier("ab", f"cat {EVIL}.jpg", "smith, hat", "train", 9, 3.2, 5.0, True, "3.2 times the median")
    quiet = Outlier("cd", "unremarkable.jpg", "smith", "train", 9, 1.0, 0.1, False, "")
    write_rows(folder / "outliers.parquet", [outlier, quiet], Outlier)
    Image.new("RGB", (40, 20), "white").save(folder / "loss_curves.png")
    validation = [{"step": 0, "train": 1.0, "validation": 1.0, "reg": None}]
    validation += [{"step": 20, "train": 0.8, "validation": 0.9, "reg": None, **JUDGED}]
    usual = {
        "train": train_options(rank=7, output=name).values(),
        "metadata": {"ss_steps": "20", "ss_sd_model_name": "mini", "prep_dataset": "f" * 64, "ss_epoch": "2"},
        "loss": {"first": 0.25, "last": 0.125, "steps": 2},
        "use": {"token": "smith", "prompt": "photo of smith man", "kohya_names": True},
        "too_long": [],
        "validation": validation,
    }
    (folder / f"{name}.safetensors").write_bytes(b"x" * 1_500_000)
    (folder / "run.json").write_text(json.dumps(usual | results))
    return folder


@pytest.fixture
def space(tmp_path):
    return workspace(tmp_path)


def page(space, folder):
    data = read_run(folder, space)
    return render_document(run_page(data, sample_rows(data, folder, ignore), "aGk="))


def test_samples_curves_verdict_and_settings_are_on_it(space):
    seen = HtmlReader(page(space, make_run(space)))
    images = [attributes for name, attributes in seen.elements if name == "img"]
    assert [image["alt"] for image in images[:6]] == ["photo of smith man"] * 3 + ["photo of a man"] * 3
    assert images[6]["src"] == "data:image/png;base64,aGk="
    for said in (
        *("base model", "step 10", "step 20", "seed 42, 25 steps", "prompt 0.28"),
        *("0.1250", "0.2500", "1.5 MB", "good, the best", "90.0%", "3.2 times the median"),
        *("copy it to models/Lora; prompt: photo of smith man <lora:smith:1>", "rank"),
    ):
        assert said in seen.text, said
    assert "unremarkable.jpg" not in seen.text


def test_hostile_names_stay_text_and_nothing_is_loaded(space):
    text = page(space, make_run(space, prompts=(EVIL, "b")))
    seen = HtmlReader(text)
    assert not [name for name, _ in seen.elements if name == "script"]
    assert seen.text.count(EVIL) >= 2 and EVIL not in text
    assert all(a.get("src", "data:").startswith("data:") for _, a in seen.elements)
    assert seen.policy().startswith("default-src 'none'; img-src data:;")


def test_settings_that_were_changed_come_first(space):
    data = read_run(make_run(space), space)
    changed = {one.name: (one.value, one.default) for one in data.settings if not one.is_default}
    assert changed | {"rank": ("7", "16"), "output": ("smith", "run")} == changed
    assert "epochs" not in changed
    assert len(data.settings) == len(train_options().values())


def test_options_of_an_earlier_prep_are_left_out(space):
    folder = make_run(space, train={"method": "lora", "output": "smith", "rank": 4, "gone_since": 3})
    assert {one.name for one in read_run(folder, space).settings} == {"method", "output", "rank"}


def test_a_run_with_little_to_show(space):
    """Without samples, validation, outliers or curves each section says so or is left out."""
    folder = make_run(space, validation=[], loss=None, use=None, metadata={})
    for name in ("samples.parquet", "outliers.parquet", "loss_curves.png"):
        (folder / name).unlink()
    data = read_run(folder, space)
    write_run_report(data, folder, folder / "report.html", ignore)
    seen = HtmlReader((folder / "report.html").read_text())
    assert not [name for name, _ in seen.elements if name == "img"]
    assert "no image was held out" in seen.text and "prep build --validation-share" in seen.text


def test_a_missing_sample_is_a_gap(space):
    folder = make_run(space)
    (folder / "samples" / "step-00000010" / "02.png").unlink()
    (folder / "samples" / "step-00000020" / "01.png").write_bytes(b"no image")
    seen = HtmlReader(page(space, folder))
    assert len(seen.having("class", "gone")) == 2


def test_a_sample_outside_the_run_is_not_read(space, tmp_path):
    folder = make_run(space, prompts=("a",), steps=(0,))
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    write_rows(folder / "samples.parquet", [sample(0, 1, file="../../secret.png")], SampleResult, {})
    data = read_run(folder, space)
    assert sample_rows(data, folder, ignore)[0].cells[0].thumbnail is None


@pytest.mark.parametrize("count", [0, 1, 2, 23, 24, 25, 100])
def test_of_many_steps_some_are_shown_with_the_ends(count):
    steps = list(range(0, 10 * count, 10))
    shown = shown_steps(steps)
    assert len(shown) == min(count, 24) == len(set(shown)) and shown == sorted(shown)
    assert shown[:1] == steps[:1] and shown[-1:] == steps[-1:]


def test_the_latest_finished_run_unless_another_is_named(space):
    old, new = make_run(space, "old"), make_run(space, "new")
    os.utime(old / "run.json", (1, 1))
    dry = make_run(space, "new-dry-run")
    (dry / "dry_run.json").write_text("{}")
    (space.runs / "begun").mkdir()
    assert find_run(space) == new and find_run(space, "old") == old
    with pytest.raises(PrepError, match=r"no run 'other'.*\n.*new, old"):
        find_run(space, "other")
    with pytest.raises(PrepError, match="begun has not finished"):
        find_run(space, "begun")
    for name in ("..", "../runs/old", "."):
        with pytest.raises(PrepError, match="There is no run"):
            find_run(space, name)


def test_without_a_run_there_is_no_report(space):
    with pytest.raises(PrepError, match="No run has finished"):
        find_run(space)


def test_the_command(space, tmp_path):
    folder = make_run(space)
    ran = CliRunner().invoke(cli, ["-C", str(space.root), "report", "train", "smith"], catch_exceptions=False)
    assert ran.exit_code == 0 and str(folder / "report.html") in ran.output
    assert (folder / "report.html").is_file()
    found = CliRunner().invoke(cli, ["-C", str(space.root), "report", "train", "--json"], catch_exceptions=False)
    data = json.loads(found.stdout)
    assert data["name"] == "smith" and data["loss"]["last"] == 0.125
    assert len(data["samples"]) == 6 and data["evaluations"][1]["verdict"] == "good"
    ran = CliRunner().invoke(cli, ["-C", str(space.root), "report", "build", "smith"])
    assert isinstance(ran.exception, PrepError)


def test_a_foreign_file_is_not_overwritten(space, tmp_path):
    folder = make_run(space)
    (tmp_path / "mine.html").write_text("<p>mine</p>")
    with pytest.raises(PrepError, match="not overwritten"):
        write_run_report(read_run(folder, space), folder, tmp_path / "mine.html", ignore)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_in_a_browser_it_loads_nothing_and_fits_narrow_screens(space):
    folder = make_run(space, steps=range(0, 200, 10))
    write_run_report(read_run(folder, space), folder, folder / "report.html", ignore)
    with browser(space.root / "browser") as tab:
        for width in (360, 1200):
            tab.resize(width, 800)
            tab.open(folder / "report.html")
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.requested_schemes() <= {"file", "data"}
        assert tab.console_messages() == []
