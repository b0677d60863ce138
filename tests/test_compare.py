"""prep compare: which tagger predicts what, what agreement means, and pages that no tag and no name can break."""

import base64
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from pipeline.cli.compare import compare
from pipeline.cli.compare_output import renderables
from pipeline.errors import PrepError
from pipeline.history import HistoryStep
from pipeline.html.document import render_document
from pipeline.manifest import write_manifest
from pipeline.record import Annotation, Drop
from pipeline.report.compare import (
    TaggedManifests,
    agreement_counts,
    compare_image,
    compare_images,
    comparison_json,
    tsv_lines,
)
from pipeline.report.compare_page import compare_page, compared_image, write_page
from stages.merging.thresholds import Thresholds
from tests.fake import cropped
from tests.html_reader import HtmlReader
from tests.make import record, tag
from tests.make import workspace as make_workspace

CUT = Thresholds.uniform(0.35)
EVIL = "<script>alert('x')</script>"
IMG = '"><img src=x onerror=alert(1)>'


def rating(text, score, by):
    return Annotation(text, "rating", "rating", score, by)


def caption(text, by="blip", score=None):
    return Annotation(text, "caption", "", score, by)


def rows(annotations, threshold=0.35):
    return {
        r.text: (r.agreement, r.scores)
        for r in compare_image(record(1), annotations, Thresholds.uniform(threshold)).tags
    }


# --- what agreement is -------------------------------------------------------------------------------


def test_agreement_of_three():
    annotations = [
        tag("long_hair", 0.9, "a"),
        tag("hat", 0.8, "a"),
        tag("cap", 0.5, "a"),
        tag("sea", 0.6, "a"),
        tag("nothing", 0.2, "a"),
        tag("Long hair ", 0.4, "b"),
        tag("hat", 0.35, "b"),
        tag("cap", 0.34, "b"),
        tag("long_hair", None, "c"),
    ]
    assert rows(annotations) == {
        "long_hair": ("all", {"a": 0.9, "b": 0.4, "c": None}),
        "hat": ("disputed", {"a": 0.8, "b": 0.35}),
        "cap": ("disputed", {"a": 0.5, "b": 0.34}),
        "sea": ("one", {"a": 0.6}),
    }
    assert list(rows(annotations)) == ["long_hair", "hat", "cap", "sea"]
    assert (
        agreement_counts(compare_image(record(1), annotations, CUT).tags)
        == "1 predicted by all, 2 disputed, 1 predicted by one only"
    )


def test_the_threshold_moves_it():
    annotations = [tag("hat", 0.8, "a"), tag("hat", 0.3, "b")]
    assert rows(annotations, 0.3)["hat"][0] == "all"
    assert rows(annotations, 0.31)["hat"][0] == "disputed"
    assert rows(annotations, 0.81) == {}


def test_each_model_has_its_own_threshold():
    """0.3 is enough of one model, not of another; a character needs more; a second setting has its tagger's."""
    by = {"swin": "wd14-swin:wd-swinv2-tagger-v3", "eva": "wd14:wd-eva02-large-tagger-v3", "dd": "deepdanbooru-2:mine"}
    annotations = [tag("hat", 0.3, by["swin"]), tag("hat", 0.5, by["eva"]), tag("hat", 0.5, by["dd"])]
    annotations += [tag("smith", 0.84, by["swin"], "character"), tag("smith", 0.86, by["eva"], "character")]
    (smith, hat) = sorted(
        compare_image(record(1), annotations, Thresholds(0, 0, {}, False)).tags, key=lambda row: row.text
    )[::-1]
    assert hat.agreement == "disputed" and hat.predicted_by == {by["swin"], by["dd"]}
    assert smith.predicted_by == {by["eva"]}
    (hat,) = compare_image(record(1), annotations[:3], Thresholds(0, 0, {"wd14": 0.5, "wd14-swin": 0.25}, False)).tags
    assert hat.agreement == "all"


def test_with_one_tagger_there_is_no_agreement():
    assert rows([tag("hat", 0.8, "a"), tag("sea", None, "a")]) == {
        "sea": ("single", {"a": None}),
        "hat": ("single", {"a": 0.8}),
    }


def test_a_captioner_does_not_vote_on_tags():
    found = compare_image(record(1), [tag("hat", 0.8, "a"), caption("A hat."), tag("hat", 0.9, "b")], CUT)
    assert found.taggers == ("a", "b") and found.tags[0].agreement == "all"
    assert [(a.tagger, a.text) for a in found.captions] == [("blip", "A hat.")]


def test_a_tag_given_twice_counts_with_its_best_score():
    assert rows([tag("hat", 0.2, "a"), tag("Hat", 0.7, "a")]) == {"hat": ("single", {"a": 0.7})}


def test_ratings_are_each_taggers_highest():
    annotations = [rating("general", 0.2, "a"), rating("explicit", 0.3, "a"), rating("general", 0.9, "b")]
    assert rows(annotations, 0.5) == {"explicit": ("disputed", {"a": 0.3}), "general": ("disputed", {"b": 0.9})}
    annotations[1] = rating("explicit", 0.1, "a")
    assert rows(annotations, 0.5) == {"general": ("all", {"a": 0.2, "b": 0.9})}


ANNOTATIONS = st.lists(
    st.builds(
        tag,
        st.sampled_from(["hat", "Hat", "long_hair", "long hair", "^_^"]),
        st.none() | st.floats(0, 1),
        st.sampled_from(["a", "b", "c"]),
    ),
    max_size=12,
)


@given(ANNOTATIONS, st.floats(0, 1))
def test_marks_follow_from_the_scores(annotations, threshold):
    found = compare_image(record(1), annotations, Thresholds.uniform(threshold))
    assert found.taggers == tuple(dict.fromkeys(a.tagger for a in annotations))
    for row in found.tags:
        predicting = {by for by, score in row.scores.items() if score is None or score >= threshold}
        assert predicting, "what nobody predicts is not shown"
        expected = "disputed"
        if len(found.taggers) == 1:
            expected = "single"
        elif predicting == set(found.taggers):
            expected = "all"
        elif len(row.scores) == 1:
            expected = "one"
        assert row.agreement == expected


# --- which images, which manifests -------------------------------------------------------------------


@pytest.fixture
def workspace(tmp_path):
    return make_workspace(tmp_path / "smith")


def write(workspace, name, records, *steps):
    history = tuple(HistoryStep(step, 1, {}, "input") for step in steps or ("crop", name.removeprefix("tag.")))
    write_manifest(workspace.manifest(name), [sorted(records, key=lambda r: r.id)], history)


def found(workspace, *names, threshold=0.35):
    return list(compare_images(TaggedManifests.find(workspace, True), names, Thresholds.uniform(threshold)))


def test_images_are_named_by_id_file_stem_or_path(workspace):
    one, two = record(1, source="raw/a/one.x.jpg"), record(2, source="raw/b/two.jpg")
    copy = replace(two, id=f"{two.id}-1", origin=two.id)
    gone = record(3, drop=Drop("crop", "too small"))
    write(workspace, "tag", [one, two, copy, gone])
    for name in (one.id, "one.x.jpg", "one.x", "raw/a/one.x.jpg"):
        assert [s.record for s in found(workspace, name)] == [one]
    assert [s.record for s in found(workspace, copy.id)] == [copy]
    assert {s.record.id for s in found(workspace)} == {one.id, two.id}, "no copies, none that were dropped"
    assert [s.record for s in found(workspace, "two", gone.id)] == sorted([two, gone], key=lambda r: r.id)
    with pytest.raises(PrepError, match=r"No image is named 'tow.jpg'.\nDid you mean 'two.jpg'"):
        found(workspace, "one.x", "tow.jpg")


def test_nothing_tagged_is_an_error(workspace):
    with pytest.raises(PrepError, match="First: prep tag"):
        found(workspace)


def test_single_manifests_add_what_the_joined_one_lacks(workspace):
    one, two, three = (record(n) for n in (1, 2, 3))

    def with_tags(name, by):
        return [replace(r, annotations=(tag(f"{name}{n}", 0.9, by),)) for n, r in enumerate([one, two, three], 1)]

    joined = with_tags("hat", "wd14")
    write(workspace, "tag", joined, "crop", "wd14")
    write(workspace, "tag.wd14", with_tags("other", "wd14"), "crop", "wd14")  # the same step: not read again
    later = with_tags("sea", "clip")
    recropped = replace(later[1], image=replace(two.image, pixel_sha256="f" * 64))
    write(workspace, "tag.clip", [later[0], recropped], "crop", "clip")  # older: one crop differs, one is missing
    write(workspace, "tag.old", with_tags("no", "wd14"), "crop", "old")  # signed by one who was heard already
    assert [m.path.stem for m in TaggedManifests.find(workspace, True).others] == ["tag.clip", "tag.old"]
    used = TaggedManifests.find(workspace)
    assert (used.others, used.unused) == ((), ("clip", "old"))  # what prep merge does not use is left out, and said
    annotations = {s.record.id: [r.text for r in s.tags] for s in found(workspace)}
    assert annotations == {one.id: ["hat1", "sea1"], two.id: ["hat2"], three.id: ["hat3"]}
    workspace.manifest("tag").unlink()
    assert {t for s in found(workspace) for r in s.tags for t in [r.text]} >= {"sea1"}


# --- output ----------------------------------------------------------------------------------------------


def invoke(workspace, *args):
    return CliRunner().invoke(compare, list(map(str, args)), obj=workspace.root, catch_exceptions=False)


@pytest.fixture
def tagged(workspace):
    """Two images on disk, one with a name, a tag, a tagger and a caption that mean harm."""
    pixels = np.random.default_rng(1).integers(0, 256, (600, 900, 3), np.uint8)
    annotations = (tag(EVIL, 0.9, "a"), tag(IMG, 0.8, f"b:{EVIL}"), caption(f"A man. {IMG}"), tag("hat", 0.9, "a"))
    annotations += (tag("hat", 0.1, f"b:{EVIL}"), Annotation(f"x{EVIL}", "measure", "", None, "files"))
    bad = replace(cropped(workspace, "00", pixels), source=f"raw/{IMG}\n\x1b[31m.jpg", annotations=annotations)
    plain = replace(
        cropped(workspace, "01", pixels[:50, :50]), annotations=(tag("hat", 0.5, "a"), tag("hat", None, "b"))
    )
    write(workspace, "tag", [bad, plain])
    return workspace


def test_piped_it_is_one_line_a_tag(tagged):
    done = invoke(tagged, "01")
    assert done.output == "01\traw/01.jpg\ttag\tall\that\ta 0.50, b yes\n"
    for line in invoke(tagged).output.splitlines():
        assert line.count("\t") == 5 and line.replace("\t", "").isprintable()


def test_json_is_one_line_an_image(tagged):
    evil, plain = map(json.loads, invoke(tagged, "--json", "--threshold", "0.05").output.splitlines())
    assert plain == {
        "id": "01",
        "source": "raw/01.jpg",
        "taggers": ["a", "b"],
        "tags": [
            {
                "text": "hat",
                "kind": "tag",
                "category": "general",
                "agreement": "all",
                "scores": {"a": 0.5, "b": None},
                "predicted_by": ["a", "b"],
            }
        ],
        "captions": [],
        "measures": [],
    }
    assert [t["text"] for t in evil["tags"]] == ["hat", EVIL, IMG] and evil["captions"][0]["text"] == f"A man. {IMG}"


def test_without_a_threshold_it_is_the_recipes(workspace):
    write(workspace, "tag", [replace(record(1), annotations=(tag("hat", 0.3, "a"), tag("sea", 0.4, "a")))])
    assert [line.split("\t")[4] for line in invoke(workspace).output.splitlines()] == ["sea"]
    workspace.recipe.write_text(workspace.recipe.read_text() + '[merge]\nthresholds = ["a=0.3"]\n')
    assert [line.split("\t")[4] for line in invoke(workspace).output.splitlines()] == ["sea", "hat"]


def test_errors_are_prep_errors(tagged):
    with pytest.raises(PrepError, match="No image is named"):
        invoke(tagged, "nobody")


def shown(found, width=100):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, highlight=False)
    console.print(*renderables(found, width), sep="\n")
    return console.file.getvalue()


def test_the_terminal_shows_columns_and_marks_and_no_control_characters(tagged):
    evil, plain = found(tagged)
    text = shown(evil)
    assert "\\x1b[31m" in text and "\x1b[31m" not in text and EVIL in text and IMG in text
    header = next(line.split() for line in shown(plain).splitlines() if "category" in line)
    row = next(line.split() for line in shown(plain).splitlines() if "hat" in line)
    assert header == ["tag", "category", "a", "b"] and row == ["●", "hat", "general", "0.50", "yes"]
    (hat,) = (line.split() for line in text.splitlines() if " hat " in line)
    assert hat == ["◐", "hat", "general", "0.90", "0.10"]
    narrow = shown(plain, 50)
    assert "category" not in narrow and "0.50" in narrow and "yes" in narrow, "scores before categories"
    marked = compare_image(record(1), [tag("[red]x[/red]", 0.9, "[b]", "[u]"), caption("[link]", "[i]")], CUT)
    assert all(part in shown(marked) for part in ("[red]x[/red]", "[b]", "[u]", "[link]", "[i]"))
    assert "explicit (rating)" in shown(compare_image(record(1), [rating("explicit", 0.9, "a")], CUT), 30)


@given(st.integers(20, 140), st.text(max_size=30), ANNOTATIONS)
def test_any_words_fit_any_terminal(width, words, annotations):
    one = compare_image(
        record(1, source=f"raw/{words}.jpg"), [*annotations, tag(words, 0.9, words), caption(words)], CUT
    )
    shown(one, width)
    assert all("\n" not in line for line in tsv_lines(one))
    json.dumps(comparison_json(one))


# --- the page ------------------------------------------------------------------------------------------------


_PARTS = "html head meta title style body h1 h2 p span article figure figcaption img br wbr div table thead tbody tr"
ELEMENTS = {*_PARTS.split(), "th", "td", "blockquote", "cite"}


def html(comparisons, workspace, title="t"):
    return render_document(compare_page([compared_image(one, workspace) for one in comparisons], title, "0.35"))


def check(text):
    """A whole document that runs nothing and loads nothing; returns its reader."""
    seen = HtmlReader(text)
    for name, attributes in seen.elements:
        assert name in ELEMENTS, name
        assert not [key for key in attributes if key.startswith("on") or key in ("href", "srcset", "action")]
        assert attributes.get("src", "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
    assert "url(" not in text and "@import" not in text
    return seen


def test_the_page_holds_all_and_escapes_all(tagged, tmp_path):
    target = tmp_path / "page.html"
    done = invoke(tagged, "--html", target)
    assert done.output == f"wrote {target}   2 images\n"
    text = target.read_text(encoding="utf-8")
    assert "<script" not in text and "<img src=x" not in text and "\x1b" not in text
    seen = check(text)
    words = seen.text
    for part in (EVIL, IMG, f"A man. {IMG}", f"b:{EVIL}", f"x{EVIL}", "hat", "0.90", "predicted by all"):
        assert part in words, part
    assert seen.policy() == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    )
    sizes = []
    for attributes in (a for name, a in seen.elements if name == "img"):
        image = Image.open(io.BytesIO(base64.b64decode(attributes["src"].partition(",")[2])))
        assert image.format == "JPEG" and (str(image.width), str(image.height)) == (
            attributes["width"],
            attributes["height"],
        )
        sizes.append(image.size)
    assert sizes == [(448, 299), (50, 50)], "shrunk, never enlarged"


def test_the_thumbnail_is_the_image(workspace):
    half = np.zeros((300, 600, 3), np.uint8)
    half[:, 300:] = (250, 120, 10)
    one = compare_image(cropped(workspace, "a", half), [], CUT)
    data = next(a["src"] for name, a in HtmlReader(html([one], workspace)).elements if name == "img")
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2])))).astype(int)
    assert seen.shape == (224, 448, 3)
    assert np.abs(seen[:, 10:200]).max() < 12 and np.abs(seen[:, 250:440] - [250, 120, 10]).max() < 12


def test_cells_carry_scores_and_rows_their_mark(workspace):
    one = compare_image(
        record(1), [tag("long_hair", 0.914, "a"), tag("long hair", 0.2, "b"), tag("sea", 0.5, "b")], CUT
    )
    seen = HtmlReader(html([one], workspace))
    cells = [a for name, a in seen.elements if name == "td" and a.get("class", "").startswith("score")]
    assert [(a["class"], a["style"]) for a in cells] == [
        ("score", "--share: 91%"),
        ("score low", "--share: 20%"),
        ("score low", "--share: 0%"),
        ("score", "--share: 50%"),
    ]
    assert [a["class"] for name, a in seen.elements if name == "tr" and a] == ["disputed", "one"]
    assert [a["title"] for name, a in seen.elements if name == "td" and a.get("class") == "mark"] == [
        "disputed",
        "predicted by one only",
    ]
    assert "image missing" in seen.texts


@settings(max_examples=50)
@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_any_words_stay_words(tmp_path_factory, source, word, by):
    workspace = make_workspace(tmp_path_factory.getbasetemp() / "any")
    annotations = [
        tag(word, 0.9, by),
        tag("x", 0.5, "z"),
        caption(word, by),
        Annotation(word, "measure", word, None, by),
    ]
    harmless = [tag("w", 0.9, "b"), tag("x", 0.5, "z"), caption("w", "b"), Annotation("w", "measure", "", None, "b")]
    pages = [
        html([compare_image(record(1, source=name), them, CUT)], workspace, title=name)
        for name, them in ((source, annotations), ("raw/1.jpg", harmless))
    ]
    names = [[name for name, _ in check(text).elements if name != "wbr"] for text in pages]
    if by != "z" and word != "x":
        assert names[0] == names[1], "words add no element"


def test_files_that_prep_did_not_write_are_kept(tagged, tmp_path):
    for place, words in ((tmp_path, "is a folder"), (tmp_path / "no" / "p.html", "does not exist")):
        with pytest.raises(PrepError, match=words):
            invoke(tagged, "--html", place)
    mine = tmp_path / "mine.html"
    mine.write_text("<!doctype html> my page")
    with pytest.raises(PrepError, match="not written by prep compare"):
        invoke(tagged, "--html", mine)
    assert mine.read_text() == "<!doctype html> my page"
    ours = tmp_path / "ours.html"
    invoke(tagged, "--html", ours)
    assert invoke(tagged, "--html", ours, "01").exit_code == 0
    assert ours.read_text().count("<article>") == 1


def test_a_missing_or_broken_image_leaves_a_note(tagged, tmp_path):
    shutil.rmtree(tagged.images)
    assert write_page(tmp_path / "p.html", found(tagged), tagged, "0.35") == 2
    assert (tmp_path / "p.html").read_text().count("image missing") == 2
    one = compare_image(record(1, image=None, drop=Drop("crop", f"too small {EVIL}")), [], CUT)
    text = check(html([one], tagged)).text
    assert "not cropped" in text and f"dropped by crop: too small {EVIL}" in text and "Nothing was predicted" in text


def test_a_manifest_cannot_reach_out_of_the_workspace(workspace):
    one = record(1)
    bad = replace(one, image=replace(one.image, path="../../etc/passwd"))
    with pytest.raises(PrepError, match="outside"):
        compared_image(compare_image(bad, [], CUT), workspace)
