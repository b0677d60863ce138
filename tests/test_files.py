"""Files: real caption files in real encodings, the rule for tags and sentences, and files that mean harm."""

import json
import os
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.manifest import from_arrow, to_arrow, write_manifest
from pipeline.record import Annotation
from taggers.sidecar.caption_text import clean, from_json, from_text, from_value, is_sentence
from taggers.sidecar.files import Files
from tests.make import record, tag
from tests.make import workspace as make_workspace


@pytest.fixture
def workspace(tmp_path):
    return make_workspace(tmp_path)


@pytest.fixture
def raw(workspace):
    return workspace.root / "raw"


def put(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data = (
        content
        if isinstance(content, bytes)
        else (content if isinstance(content, str) else json.dumps(content)).encode()
    )
    path.write_bytes(data)
    return path


def said(workspace, *sources, **options):
    """(kind, text) of what is said of each image; one list where one is asked for."""
    for source in sources:
        (workspace.root / "raw" / source).parent.mkdir(parents=True, exist_ok=True)
        (workspace.root / "raw" / source).touch()
    records = [record(n, source=f"raw/{source}") for n, source in enumerate(sources)]
    rows = [[(a.kind, a.text) for a in r.annotations] for r in Files(**options).start(workspace)(records)]
    return rows[0] if len(sources) == 1 else rows


def words(pairs):
    return [text for _, text in pairs]


# --- tags or a sentence ------------------------------------------------------------------------------

TAG_LINES = [
    "1girl, solo, long_hair, ^_^",
    "smith",
    "red beard",
    "looking at viewer",
    "1girl, solo, looking at viewer, hand on own hip",
    "hand on own hip, looking at viewer",
    "photo of smith man, wearing a hat, outdoors",
    "1boy, solo, gochuumon wa usagi desu ka?, hat",
    "1girl, solo, ore no imouto ga konna ni kawaii wake ga nai, hat, smile, red hair",
    "1girl, solo, ...",
    "1girl, solo, open mouth, ...",
    "1girl, the legend of zelda, link",
    "a red car, parked",
    "smith man ||| beard, hat",
    "男の子，帽子",
]
SENTENCES = [
    "a man",
    "a man with a beard standing in a forest",
    "a man with a beard, standing in a forest, wearing a hat",
    "A man with a beard, smiling",
    "There is a dog, and it runs.",
    "Two people stand close together. One laughs.",
    'She says "hello, my friend."',
    "photo of smith man outdoors",
    "an extremely detailed portrait of somebody sitting on some old bench, smiling",
    "彼女は木の下に立っている。",
]


@pytest.mark.parametrize("line", TAG_LINES)
def test_a_list_is_tags(line):
    assert not is_sentence(line)
    parts = [part.strip() for part in line.replace("|||", ",").replace("，", ",").split(",")]
    assert [(a.kind, a.text) for a in from_text(line, "auto")] == [("tag", part) for part in parts]


@pytest.mark.parametrize(
    "line", ["1girl solo long_hair blue_eyes", "2boys smile", "long_hair smile ^_^", "looking_at_viewer hat_(object)"]
)
def test_tags_separated_by_spaces_are_tags(line):
    assert [(a.kind, a.text) for a in from_text(line, "auto")] == [("tag", word) for word in line.split()]
    assert [a.kind for a in from_text(line, "caption")] == ["caption"]


@pytest.mark.parametrize(
    "line", ["1girl standing in the rain", "my_photo of a red car at night", "red hair", "long_hair", "A 1girl."]
)
def test_words_of_a_sentence_are_no_tags_separated_by_spaces(line):
    assert [a.text for a in from_text(line, "auto")] == [line]


@pytest.mark.parametrize("line", SENTENCES)
def test_a_sentence_is_a_caption(line):
    assert [(a.kind, a.text) for a in from_text(line, "auto")] == [("caption", line)]


WORD = st.sampled_from("hat long_hair red beard 1girl smile ^_^ smith outdoors :3 (object)".split())  # noqa: SIM905
TAG = st.lists(WORD, min_size=1, max_size=3).map(" ".join)


@given(st.lists(TAG, min_size=2, max_size=60, unique=True), st.sampled_from([",", ", ", " ,  ", ",\t"]))
def test_any_list_of_short_tags_is_tags_as_written(tags, comma):
    once: dict[str, str] = {}
    for one in tags:
        once.setdefault(one if one == "^_^" else one.replace("_", " "), one)
    assert [a.text for a in from_text(comma.join(tags), "auto")] == list(once.values())
    assert {a.kind for a in from_text(comma.join(tags), "auto")} == {"tag"}


@given(st.lists(st.sampled_from("the dog runs, and barks at a man who sleeps".split()), min_size=4, max_size=40))  # noqa: SIM905
def test_four_words_and_a_full_stop_are_a_caption_as_written(sentence):
    text = " ".join(sentence).strip(",") + "."
    assert [(a.kind, a.text) for a in from_text(text, "auto")] == [("caption", text)]


@given(st.text(max_size=200))
@example("\ud800, \x00\x1b[31mred")
def test_any_text_is_clean_and_loses_no_word(text):
    for form in ("auto", "tags", "caption"):
        found = from_text(text, form)
        for one in found:
            assert one.text == one.text.strip() and "\n" not in one.text and "\x1b" not in one.text
            one.text.encode("utf-8")
            assert one.kind == {"tags": "tag", "caption": "caption"}.get(form, one.kind)
            assert one.tagger == "files" and one.score is None
    letters = {c for c in text if c.isalnum()}
    assert letters <= {c for one in from_text(text, "caption") for c in one.text}


def test_the_form_overrules_the_rule():
    assert [(a.kind, a.text) for a in from_text("a hat, a man.", "tags")] == [("tag", "a hat"), ("tag", "a man.")]
    assert [(a.kind, a.text) for a in from_text("1girl, solo", "caption")] == [("caption", "1girl, solo")]


def test_lines_are_several_captions_or_tags_and_each_thing_is_said_once():
    text = "A man in a hat.\r\n\r\nShe is by the sea.\nA man in a hat.\n1girl, Solo, long_hair, long hair,, solo\nhat"
    assert [(a.kind, a.text) for a in from_text(text, "auto")] == [
        ("caption", "A man in a hat."),
        ("caption", "She is by the sea."),
        ("tag", "1girl"),
        ("tag", "Solo"),
        ("tag", "long_hair"),
        ("tag", "hat"),
    ]


def test_backslashes_of_weighted_prompts_go():
    assert words((a.kind, a.text) for a in from_text(r"cat \(animal\), a\\b, |_|, \m/", "auto")) == [
        "cat (animal)",
        r"a\b",
        "|_|",
        r"\m/",
    ]


# --- files of one image ------------------------------------------------------------------------------

ENCODED = {
    "plain": "béret, mañana, 帽子".encode(),
    "with a mark": b"\xef\xbb\xbf" + "béret, mañana, 帽子".encode(),
    "CRLF": "béret, mañana, 帽子\r\n".encode(),
    "no end": "béret,\tmañana ,帽子".encode(),
    "UTF-16 LE": "béret, mañana, 帽子\r\n".encode("utf-16"),
    "UTF-16 BE": b"\xfe\xff" + "béret, mañana, 帽子".encode("utf-16-be"),
    "UTF-32": "béret, mañana, 帽子".encode("utf-32"),
    "empty lines": "\r\n\n  \nbéret, mañana,,\n\n帽子\n\n".encode(),
}
REFUSED = {
    "UTF-16 cut off": ("béret, hat".encode("utf-16")[:-1], "is not valid UTF-16: truncated data"),
    "UTF-16 unmarked": ("beret, hat".encode("utf-16-le"), "has zero bytes, as UTF-16 without"),
    "Latin-1": ("hat, béret".encode("latin-1"), "is not UTF-8: byte 0xe9 at 6"),
    "Shift-JIS": ("帽子".encode("shift-jis"), "is not UTF-8: byte 0x96 at 0"),
    "large": (b"a, " * 400_000, "is too large for captions: 1,200,000 bytes"),
    "endless": (b",".join(b"t%d" % n for n in range(3000)), "has 3,000 tags and captions of one image"),
    "binary": (bytes(range(128, 256)), "is not UTF-8"),
}


@pytest.mark.parametrize("name", ENCODED)
@pytest.mark.parametrize("file", ["1.txt", "1.jpg.txt", "1.caption", "1.TXT"])
def test_text_files_are_found_and_read(workspace, raw, name, file):
    put(raw, file, ENCODED[name])
    assert said(workspace, "1.jpg") == [("tag", "béret"), ("tag", "mañana"), ("tag", "帽子")]


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_file_is_told_in_its_row_and_stops_nothing(workspace, raw, name):
    data, reason = REFUSED[name]
    put(raw, "1.txt", data)
    put(raw, "1.caption", "A man stands there, alone.")
    put(raw, "2.txt", "hat")
    one, two = said(workspace, "1.jpg", "2.jpg")
    assert one[0] == ("caption", "A man stands there, alone.") and two == [("tag", "hat")]
    ((kind, text),) = one[1:]
    assert kind == "measure" and text.startswith(f"1.txt {reason}")


def test_a_fault_is_a_measure_that_no_caption_takes(workspace, raw):
    put(raw, "1.txt", b"\xff")
    (done,) = Files().start(workspace)([record(1)])
    assert done.kept
    fault = Annotation("1.txt is not UTF-8: byte 0xff at 0", "measure", "unreadable captions", None, "files")
    assert done.annotations == (fault,)


def test_what_is_no_ordinary_file_is_told_and_never_waited_for(workspace, raw):
    os.mkfifo(raw / "1.txt")
    (raw / "1.caption").symlink_to(raw / "nowhere")
    (raw / "1.json").symlink_to(raw / "1.json")
    (raw / "1.jpg.txt").mkdir()
    kinds, texts = zip(*said(workspace, "1.jpg"), strict=True)
    assert set(kinds) == {"measure"} and len(texts) == 3
    assert texts[0] == "1.txt is not a regular file"
    assert all("cannot be read" in text for text in texts[1:])


def test_all_files_of_an_image_are_read_in_order(workspace, raw):
    put(raw, "a.b.json", ["tag3"])
    put(raw, "a.b.caption", "A man stands there.")
    put(raw, "a.b.txt", "tag1")
    put(raw, "a.b.jpg.txt", "tag2, tag1")
    put(raw, "a.txt", "another")
    assert words(said(workspace, "a.b.jpg")) == ["tag1", "A man stands there.", "tag3", "tag2"]


def test_an_image_without_files_is_left_as_it_is(workspace, raw):
    put(raw, "10.txt", "hat")
    before = record(1, annotations=(tag("beard"), tag("old", by="files")))
    (after,) = Files().start(workspace)([before])
    assert after == replace(before, annotations=(tag("beard"),)), "what files said before has gone"
    (nowhere,) = Files().start(workspace)([record(1, source="gone/1.jpg")])
    assert nowhere.annotations == ()


def test_a_copy_says_what_its_original_says(workspace, raw):
    put(raw, "1.txt", "hat")
    original = record(1)
    copy = replace(original, id=f"{original.id}-1", origin=original.id)
    rows = Files().start(workspace)([original, copy])
    assert [r.annotations for r in rows] == [(tag("hat", None, "files"),)] * 2
    assert [r.id for r in rows] == [original.id, copy.id]


def test_names_of_macos_are_the_same_names(workspace, raw):
    put(raw, unicodedata.normalize("NFD", "café.txt"), "hat")
    put(raw, "meta.json", {unicodedata.normalize("NFC", "café"): {"tags": "beard"}})
    assert words(said(workspace, unicodedata.normalize("NFC", "café.jpg"))) == ["hat", "beard"]
    assert words(said(workspace, unicodedata.normalize("NFD", "café.jpg"))) == ["hat", "beard"]


# --- JSON -----------------------------------------------------------------------------------------------

JSON = {
    "a text": ("1girl, solo", [("tag", "1girl"), ("tag", "solo")]),
    "a list": (["hand on own hip", "hat"], [("tag", "hand on own hip"), ("tag", "hat")]),
    "captions": (["A man in a hat.", "He is tall."], [("caption", "A man in a hat."), ("caption", "He is tall.")]),
    "tags and caption": (
        {"caption": "man, hat", "tags": "a man with the hat, hat"},
        [("caption", "man, hat"), ("tag", "a man with the hat"), ("tag", "hat")],
    ),
    "several captions": ({"captions": ["one", "two"]}, [("caption", "one"), ("caption", "two")]),
    "text is ruled": ({"text": "A man in a hat."}, [("caption", "A man in a hat.")]),
    "prompt is ruled": ({"prompt": "man, hat"}, [("tag", "man"), ("tag", "hat")]),
    "Danbooru": (
        {
            "id": 5,
            "tag_string": "1girl long_hair link",
            "tag_string_general": "1girl long_hair",
            "tag_string_character": "link",
        },
        [("tag", "1girl"), ("tag", "long_hair"), ("tag", "link")],
    ),
    "spaced tags": ({"tags": "1girl long_hair"}, [("tag", "1girl"), ("tag", "long_hair")]),
    "one tag of two words": ({"tags": "long hair"}, [("tag", "long hair")]),
    "by category": ({"tags": {"general": ["hat"], "lore": ["x y"]}}, [("tag", "hat"), ("tag", "x y")]),
    "with scores": ({"tags": {"hat": 0.91234567, "cap": 7, "no": False}}, [("tag", "hat"), ("tag", "cap")]),
    "objects": ({"tags": [{"name": "hat", "score": 0.5}, {"label": "cap"}, 7, None]}, [("tag", "hat"), ("tag", "cap")]),
}


@pytest.mark.parametrize("name", JSON)
def test_json_beside_an_image(workspace, raw, name):
    value, expected = JSON[name]
    put(raw, "1.json", json.dumps(value))
    assert said(workspace, "1.jpg") == expected


def test_scores_and_categories_of_json_are_kept():
    found = from_json('{"tags": {"hat": 0.91234567, "cap": 7, "bad": NaN}, "tag_string_character": "link"}', "auto")
    assert [(a.text, a.score, a.category) for a in found] == [
        ("link", None, "character"),
        ("hat", 0.9123, "general"),
        ("cap", None, "general"),
        ("bad", None, "general"),
    ]


def test_json_may_begin_with_a_mark(workspace, raw):
    put(raw, "1.json", b"\xef\xbb\xbf" + json.dumps({"tags": "béret"}, ensure_ascii=False).encode())
    assert said(workspace, "1.jpg") == [("tag", "béret")]


BAD_JSON = {
    "": "is not JSON",
    "{": "is not JSON: Expecting property name enclosed in double quotes, line 1",
    '{"caption": "a"\n"b"}': "line 2",
    "[" * 100_000: "is nested too deeply",
    '{"a": ' * 100_000: "is nested too deeply",
    "1" * 10_000: "a number that is too long",
    '{"size": 3}': "has no caption and no tags",
    "null": "has no caption and no tags",
    "7": "has no caption and no tags",
}


@pytest.mark.parametrize("text", BAD_JSON, ids=lambda text: text[:12])
def test_json_that_says_nothing_says_why(workspace, raw, text):
    put(raw, "1.json", text)
    put(raw, "1.txt", "hat")
    first, (kind, fault) = said(workspace, "1.jpg")
    assert first == ("tag", "hat") and kind == "measure" and fault.startswith("1.json ") and BAD_JSON[text] in fault


LEAF = st.none() | st.booleans() | st.floats() | st.text(max_size=20) | st.integers()
KEYS = st.sampled_from(["tags", "caption", "captions", "text", "prompt", "tag_string", "tags_general", "name", "x", ""])
HOSTILE = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=20
)


@given(HOSTILE, st.sampled_from(["auto", "tags", "caption"]))
@example({"tags": "\ud800", "caption": ["\x00\x1b[2J", {"a": []}]}, "auto")
def test_any_json_is_rows_that_a_manifest_holds(value, form):
    for found in (from_value(value, form), from_json(json.dumps(value), form)):
        row = record(1, annotations=tuple(found))
        assert from_arrow(to_arrow([row])) == [row]
        assert all(a.text and (a.score is None or 0 <= a.score <= 1) for a in found)


@given(st.binary(max_size=60), st.sampled_from(["1.txt", "1.json", "meta.json", "metadata.jsonl"]))
def test_any_bytes_are_rows(tmp_path_factory, data, name):
    workspace = make_workspace(tmp_path_factory.mktemp("w"))
    put(workspace.root / "raw", name, data)
    (done,) = Files().start(workspace)([record(1)])
    assert done.kept and from_arrow(to_arrow([done])) == [done]


def test_deep_objects_do_not_break_the_reader():
    value = {}
    for depth in range(5000):
        value = {"general": value, f"hat{depth}": 0.5}
    assert [a.text for a in from_value({"tags": value}, "auto")] == ["hat4998", "hat4999"], "one level deep"


def test_clean_keeps_joined_signs():
    assert clean("👩\u200d🚀  a\u2028b\x07") == "👩\u200d🚀 a b"


# --- files of many images ---------------------------------------------------------------------------------


def test_kohyas_metadata(workspace, raw):
    put(
        raw,
        "meta_clean.json",
        {
            "1": {"caption": "a man in a hat", "tags": "1boy, hat", "train_resolution": [512, 512]},
            "/somewhere/else/raw/2.jpg": {"tags": "beard"},
            "C:\\train\\raw\\3.png": {"caption": "first one\nsecond one"},
            "4.jpg": "man, red hat",
            "other": {"tags": "none of ours"},
        },
    )
    assert said(workspace, "1.jpg", "2.jpg", "3.png", "4.jpg", "5.jpg") == [
        [("caption", "a man in a hat"), ("tag", "1boy"), ("tag", "hat")],
        [("tag", "beard")],
        [("caption", "first one"), ("caption", "second one")],
        [("tag", "man"), ("tag", "red hat")],
        [],
    ]


def test_the_entry_whose_folders_match_wins(workspace, raw):
    put(
        workspace.root,
        "meta_cap.json",
        {"/x/b/1.jpg": {"tags": "b"}, "/x/a/1.jpg": {"tags": "a"}, "c/1": {"tags": "c"}},
    )
    for name in ("a/1.jpg", "b/1.jpg", "c/1.jpg"):
        put(raw, name, b"")
    assert [words(row) for row in said(workspace, "a/1.jpg", "b/1.jpg", "c/1.jpg")] == [["a"], ["b"], ["c"]]


def test_of_two_entries_the_first_and_the_full_name_count(workspace, raw):
    put(raw, "meta.json", {"1": {"tags": "stem"}, "1.jpg": {"tags": "first"}, "./1.jpg": {"tags": "second"}})
    assert words(said(workspace, "1.jpg")) == ["first"]


def test_hugging_faces_metadata(workspace, raw):
    lines = [
        {"file_name": "1.jpg", "text": "A man in a red hat."},
        {"file_name": "./sub/1.jpg", "text": "1boy, hat"},
        {"file_name": "sub/3.jpg", "tags": ["beard"], "width": 5},
    ]
    put(raw, "metadata.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n")
    put(raw, "sub/1.jpg", b"")
    assert said(workspace, "1.jpg", "sub/1.jpg", "sub/3.jpg", "sub/deep/1.jpg") == [
        [("caption", "A man in a red hat.")],
        [("tag", "1boy"), ("tag", "hat")],
        [("tag", "beard")],
        [],
    ]


def test_a_bare_name_of_a_table_above_is_not_ours(workspace, raw):
    put(workspace.root, "metadata.jsonl", '{"file_name": "1.jpg", "text": "hat"}')
    put(workspace.root, "others.json", {"1": {"tags": "hat"}})
    assert said(workspace, "1.jpg") == []


def test_one_bad_line_costs_one_image(workspace, raw):
    put(
        raw,
        "metadata.jsonl",
        '{"file_name": "1.jpg", "text": "hat"}\n{"file_name": "2.jpg", "te\n[]\n7\n{"file_name": 5}\n',
    )
    one, two = said(workspace, "1.jpg", "2.jpg")
    assert one == [("tag", "hat")]
    ((kind, text),) = two
    assert kind == "measure" and text.startswith("metadata.jsonl in line 2 is not JSON")


def test_a_bad_table_is_told_to_every_image(workspace, raw):
    put(raw, "meta_cap.json", '{"1": {"tags": "hat"}')
    put(raw, "1.txt", "hat")
    one, two = said(workspace, "1.jpg", "2.jpg")
    assert one[0] == ("tag", "hat") and one[1] == two[0]
    assert two[0][1].startswith("meta_cap.json is not JSON")


def test_a_json_file_of_another_image_is_no_table(workspace, raw):
    put(raw, "2.jpg", b"")
    put(raw, "2.json", {"1": {"tags": "no"}, "tags": "hat"})
    assert said(workspace, "1.jpg", "2.jpg") == [[], [("tag", "hat")]]


# --- staleness ------------------------------------------------------------------------------------------------


def hash_of(workspace):
    (model,) = Files().models(workspace)
    return model.sha256


def test_a_changed_file_makes_the_annotations_stale(workspace, raw):
    assert Files().models(workspace) == ()
    write_manifest(workspace.manifest("sources"), [sorted([record(1), record(2)], key=lambda r: r.id)], ())
    seen = [hash_of(workspace)]
    steps = [
        lambda: put(raw, "1.txt", "hat"),
        lambda: put(raw, "1.txt", "cap"),
        lambda: (raw / "1.txt").rename(raw / "2.txt"),
        lambda: put(raw, "metadata.jsonl", "{}"),
        lambda: put(workspace.root, "meta_cap.json", "{}"),
        lambda: (raw / "2.txt").unlink(),
        lambda: os.mkfifo(raw / "3.txt"),
    ]
    for step in steps:
        step()
        assert hash_of(workspace) == hash_of(workspace)
        seen.append(hash_of(workspace))
    assert len(set(seen)) == len(seen)
    put(raw, "1.jpg", "no caption")
    put(workspace.root, "notes.txt", "not beside an image")
    assert hash_of(workspace) == seen[-1]
