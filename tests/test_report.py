"""The HTML page of prep report, as a parser and as a real browser see it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import pipeline.report
from pipeline.cli.report import report
from pipeline.html.document import render_document
from pipeline.manifest import write_manifest
from pipeline.record import Annotation
from pipeline.report.data import report_json
from pipeline.report.gallery import build_gallery, sample_rows
from pipeline.report.measure import measure
from pipeline.report.page import SECTIONS, report_page, write_report
from tests.browser import CHROMIUM, browser
from tests.checking import alongside, around, axis, good, seen_by_clip
from tests.html_reader import HtmlReader
from tests.make import workspace
from tests.report_set import EVIL, HISTORY, IMG, make_set

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


def no_progress(done, total):
    pass


def write_images(space, manifest):
    """Images for the records, each of one color."""
    for number, one in enumerate(r for r in manifest.records() if r.image):
        path = space.path(one.image.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (one.image.height, one.image.width, 3)
        Image.fromarray(np.full(size, (number * 37 % 256, 90, 140), np.uint8)).save(path)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    space, manifest = make_set(tmp_path_factory.mktemp("report"), 40)
    write_images(space, manifest)
    return space, manifest


def made(space, manifest, most=300):
    measured = measure(manifest, space, no_progress)
    return render_document(report_page(measured.data, build_gallery(manifest, space, measured, most, no_progress)))


def test_hostile_text_stays_text(dataset):
    text = made(*dataset)
    seen = HtmlReader(text)
    for name, attributes in seen.elements:
        assert not [key for key in attributes if key.startswith("on") or key in ("srcset", "action")], name
        assert attributes.get("href", "#").startswith("#")
        assert attributes.get("src", "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
    assert sum(name == "script" for name, _ in seen.elements) == 1
    assert EVIL in seen.text and IMG in seen.text
    assert EVIL not in text and IMG not in text


def test_hostile_text_adds_no_element(tmp_path):
    """The same dataset with and without hostile names: the same elements, except for the bars of histograms."""
    space, manifest = make_set(tmp_path / "evil", 30)
    tame = [
        dataclasses.replace(
            r, source=r.source.replace(EVIL, "a").replace(IMG, "b"), caption=r.caption.replace(EVIL, "c")
        )
        for r in manifest.records()
    ]
    other = workspace(tmp_path / "tame")
    quiet = write_manifest(other.manifest("merge"), [tame], HISTORY)
    ours, theirs = (HtmlReader(made(s, m)) for s, m in ((space, manifest), (other, quiet)))
    bars = {"tr", "th", "td", "span"}
    ours, theirs = (Counter(name for name, _ in seen.elements if name not in bars) for seen in (ours, theirs))
    assert ours == theirs


def test_all_images_or_as_many_as_asked_for(dataset):
    space, manifest = dataset
    total = manifest.counts.images
    whole, some = HtmlReader(made(space, manifest)), HtmlReader(made(space, manifest, most=10))
    assert len(whole.having("class", "plate")) == total and f"All {total} images." in whole.text
    assert len(some.having("class", "plate")) == 10
    assert f"10 of {total} images, evenly spaced" in some.text and f"the other {total - 10} count in" in some.text


def test_originals_come_before_copies_and_are_evenly_spaced(dataset):
    space, manifest = dataset
    measured = measure(manifest, space, no_progress)
    records = list(manifest.records())
    originals = [n for n, r in enumerate(records) if r.kept and r.transform is None]
    copies = [n for n, r in enumerate(records) if r.kept and r.transform]
    for most in (0, 1, 5, len(originals), len(originals) + 2, 999):
        chosen = sample_rows(measured, most)
        assert len(set(chosen)) == len(chosen) == min(most, len(originals) + len(copies))
        assert len(set(chosen) & set(copies)) == max(0, len(chosen) - len(originals))
    places = sorted(originals.index(row) for row in sample_rows(measured, 5))
    gaps = [b - a for a, b in itertools.pairwise(places)]
    assert places[0] == 0 and places[-1] == len(originals) - 1 and max(gaps) - min(gaps) <= 1


def test_tags_that_the_caption_leaves_out_are_struck_through_and_edits_are_listed(tmp_path):
    space, manifest = make_set(tmp_path, 2)
    one = next(r for r in manifest.records() if r.kept)
    tags = (Annotation("hat", "tag", "", 0.9, "wd14"), Annotation("beard", "tag", "", None, "wd14"))
    edits = (Annotation("hat", "edit", "add", None, "human"),)
    one = dataclasses.replace(one, annotations=tags + edits, caption="smith, hat")
    manifest = write_manifest(space.manifest("merge"), [[one]], HISTORY)
    text = made(space, manifest)
    assert "<span>hat <small>0.90</small></span>" in text and "<s>beard</s>" in text
    assert "2 tags, 1 left out" in text and "edited: add hat" in text


def test_every_step_is_listed_with_its_models_and_hashes(dataset):
    space, manifest = dataset
    seen = HtmlReader(made(space, manifest))
    titles = {a["title"] for _, a in seen.elements if "title" in a}
    assert {step.key for step in HISTORY} | {"f" * 64, manifest.digest} <= titles
    assert f"hub/{EVIL}" in seen.text and "pillow 12.0" in seen.text and "smith=beard" in seen.text


def test_sections_without_content_are_left_out(tmp_path):
    space, manifest = make_set(tmp_path, 12)
    bare = [dataclasses.replace(r, caption="", annotations=()) for r in manifest.records()]
    for stage, steps in (("crop", 2), ("tag", 3)):
        cut = write_manifest(space.manifest(stage), [bare], HISTORY[:steps])
        ids = {a["id"] for name, a in HtmlReader(made(space, cut)).elements if name == "section"}
        assert {"dataset", "images", "sizes", "quality", "dropped", "history"} <= ids
        assert not ids & {"captions", "tags", "subjects"}


def test_the_command_writes_the_page_or_prints_the_data(dataset, tmp_path):
    space, manifest = dataset
    run = CliRunner().invoke(report, ["--html", str(tmp_path / "p.html")], obj=space.root, catch_exceptions=False)
    assert run.stdout == f"wrote {tmp_path / 'p.html'}   {manifest.counts.images:,} images\n"
    numbers = CliRunner().invoke(report, ["merge", "--json"], obj=space.root, catch_exceptions=False)
    data = json.loads(numbers.stdout)
    assert data["digest"] == manifest.digest and data["history"][-1]["key"] == HISTORY[-1].key
    assert data == json.loads(json.dumps(report_json(measure(manifest, space, no_progress).data)))
    late = CliRunner().invoke(report, ["build"], obj=space.root)
    assert (late.exception.wrong, late.exception.hint) == ("build has not run yet.", "First: prep build")


def test_every_section_has_a_template_and_every_template_a_section():
    folder = Path(pipeline.report.__file__).parent / "templates" / "sections"
    assert {path.name for path in folder.iterdir()} == {f"{section.id}.html.jinja" for section in SECTIONS}


def test_the_same_dataset_gives_the_same_page(dataset, tmp_path):
    space, manifest = dataset
    for name in ("one", "two"):
        write_report(manifest, space, tmp_path / name, 300, no_progress)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


# --- in a real browser ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tab(dataset, tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    space, manifest = dataset
    path = tmp_path_factory.mktemp("browser") / "report.html"
    write_report(manifest, space, path, 300, no_progress)
    data = path.parent / "data"
    with browser(data) as tab:
        tab.resize(1280, 900)
        tab.open(path)
        yield tab
    shutil.rmtree(data, ignore_errors=True)


_SHOWN = "[...document.querySelectorAll('#sheet figure')].filter(f => f.offsetParent)"


def type_filter(tab, text):
    tab.evaluate(
        f"var f = document.getElementById('filter'); f.value = {json.dumps(text)}; f.dispatchEvent(new Event('input'))"
    )


@needs_browser
def test_it_loads_nothing_and_logs_nothing(tab):
    decoded = (
        "Promise.all([...document.images].map(i => { i.loading = 'eager'; return i.decode() })).then(a => a.length)"
    )
    assert tab.evaluate(decoded) == tab.evaluate("document.images.length") > 0
    assert tab.requested_schemes() == {"file", "data"}
    assert tab.console_messages() == []


@needs_browser
def test_its_numbers_are_the_manifests(dataset, tab):
    counts = dataset[1].counts
    tiles = tab.evaluate(
        "Object.fromEntries([...document.querySelectorAll('.tiles div')]"
        ".map(tile => [...tile.children].map(part => part.textContent)))"
    )
    dropped = sum(counts.dropped.values())
    assert tiles == {
        "files found": str(counts.found),
        "kept": str(counts.kept),
        "dropped": str(dropped),
        "images": str(counts.images),
    }
    assert tab.evaluate(f"{_SHOWN}.length") == counts.images
    captions = tab.evaluate(f"{_SHOWN}.map(f => f.querySelector('figcaption p').textContent)")
    assert sorted(captions) == sorted(r.caption for r in dataset[1].records() if r.kept)


@needs_browser
def test_the_filter_finds_words_where_they_begin(dataset, tab):
    kept = [r for r in dataset[1].records() if r.kept]
    type_filter(tab, "Long Ha, smi")
    wanted = sum("long hair" in r.caption + r.id for r in kept if "smith" in r.caption)
    shown = tab.evaluate(f"{_SHOWN}.map(f => f.textContent.toLowerCase())")
    assert len(shown) >= wanted > 0 and all("long hair" in words and "smi" in words for words in shown)
    assert tab.evaluate("document.getElementById('matches').value") == f"{len(shown)} of {len(kept)}"
    type_filter(tab, "ong hair")
    assert tab.evaluate(f"{_SHOWN}.length") == 0
    type_filter(tab, "(")
    assert tab.evaluate("document.getElementById('matches').value").endswith(f"of {len(kept)}"), (
        "no pattern, but a sign"
    )
    type_filter(tab, "")
    assert tab.evaluate(f"{_SHOWN}.length") == len(kept)


@needs_browser
def test_it_sorts_and_goes_back(tab):
    order = "[...document.querySelectorAll('#sheet figure')].map(f => f.id)"
    before = tab.evaluate(order)
    choose_sort = "const s = document.getElementById('sort'); s.value = '{}'; s.dispatchEvent(new Event('change'))"
    tab.evaluate(choose_sort.replace("const s", "var s").format("-cropped"))
    cropped = [
        float(v) for v in tab.evaluate("[...document.querySelectorAll('#sheet figure')].map(f => f.dataset.cropped)")
    ]
    assert cropped == sorted(cropped, reverse=True) and len(set(cropped)) > 1
    tab.evaluate(choose_sort.replace("const s", "var s").format(""))
    assert tab.evaluate(order) == before


@needs_browser
def test_keys_alone_reach_the_filter_and_a_tag(tab):
    tab.evaluate("document.activeElement.blur()")
    tab.press("/")
    assert tab.evaluate("document.activeElement.id") == "filter"
    assert tab.evaluate("document.getElementById('filter').value") == ""
    tab.evaluate("document.querySelector('[data-tag=\"hat\"] button').focus()")
    tab.press("Enter")
    assert tab.evaluate("document.getElementById('filter').value") == "hat"
    assert tab.evaluate(f"{_SHOWN}.every(f => /hat/.test(f.textContent))")
    type_filter(tab, "")


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, False), (390, True)])
def test_it_fits_a_screen_and_can_be_read(tab, width, dark):
    """No sideways scrolling of the page; text and paper differ by 4.5 to 1 as WCAG 2 counts it."""
    tab.resize(width, 900, dark)
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    colors = tab.evaluate(
        "['body', 'h1', '.soft', 'nav a', 'th'].map(s => getComputedStyle(document.querySelector(s)).color)"
        ".concat(getComputedStyle(document.body).backgroundColor)"
    )
    *texts, paper = (luminance(color) for color in colors)
    assert (paper < 0.1) == dark
    assert all((max(t, paper) + 0.05) / (min(t, paper) + 0.05) >= 4.5 for t in texts)
    tab.resize(1280, 900)


@needs_browser
def test_without_its_script_it_shows_the_same(dataset, tab, tmp_path):
    space, manifest = dataset
    path = tmp_path / "report.html"
    write_report(manifest, space, path, 300, no_progress)
    path.write_text(path.read_text().replace("<script>", "<script type='text/plain'>"))
    tab.open(path)
    assert tab.evaluate("document.querySelectorAll('#sheet figure').length") == manifest.counts.images
    assert tab.evaluate("document.getElementById('tools').offsetParent") is None
    assert tab.evaluate("document.querySelectorAll('button').length") == 0


def luminance(color):
    """Relative luminance of 'rgb(r, g, b)', WCAG 2."""
    parts = [int(part) / 255 for part in color[4:-1].split(",")]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_scenes_and_outliers_by_clip(tmp_path):
    """Two images of one scene in two roles, three in one, and one unlike the rest; two without a vector."""
    whole = dataclasses.replace(good(0).crop, cropped_fraction=0.0)  # no other section names these images
    records = [good(n, role="val" if n == 9 else "train", crop=whole) for n in range(15)]
    one, two = around(6)[2], around(6)[5]
    scenes = [alongside(one, 0.99, axis(60)), alongside(two, 0.99, axis(61)), alongside(two, 0.99, axis(62))]
    manifest = seen_by_clip(tmp_path, records, [*around(9), *scenes, axis(63), None, None])
    space = workspace(tmp_path)
    write_images(space, manifest)
    seen = measure(manifest, space, no_progress).data.clip
    assert (seen.compared, seen.images, seen.scenes) == (13, 15, 2)
    named = [({image.source for image in group.images}, group.roles) for group in seen.listed]
    assert named == [
        ({"raw/2.jpg", "raw/9.jpg"}, ("train", "val")),
        ({"raw/5.jpg", "raw/10.jpg", "raw/11.jpg"}, ("train",)),
    ]
    # To the others the odd one is at a right angle.
    assert [(image.source, far) for image, far in seen.outliers] == [("raw/12.jpg", 1.0)]
    text = made(space, manifest, most=0)
    section = text[text.index('<section id="clip">') : text.index('<section id="dropped">')]
    assert section.count('<div class="group">') == 2 and section.count("<img") == 6
    words = HtmlReader(text).text
    assert "CLIP embeddings of 13 of 15 originals, compared within each subject." in words
    assert "2 groups whose perceptual hashes differ." in words and "1.00 from the nearest" in words


def test_without_embeddings_there_is_no_clip_section(dataset):
    assert measure(*dataset[::-1], no_progress).data.clip is None
    assert 'id="clip"' not in made(*dataset)
