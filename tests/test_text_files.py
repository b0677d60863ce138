"""The one decoder of text that people write, and every reader that goes through it, with files as editors save them."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PrepError
from pipeline.exchange.item import read_caption
from pipeline.exchange.kohya_metadata import detect
from pipeline.exchange.kohya_metadata import read as read_metadata
from pipeline.kohya_folders import DatasetFolder, KohyaFolder, read_all
from pipeline.recipe import Recipe
from pipeline.registry import ORDER
from pipeline.text_files import TextFault, byte_order_mark, decode_text, is_encoding, read_text
from stages.merging.priors import read_priors
from stages.merging.tag_taxonomy import read_taxonomy
from taggers.clip.labels import read_labels
from training.sampling.prompts import read_prompts
from training.sampling.settings import ImageSettings

SAVED = {  # how editors save a text: Notepad's "Unicode" is UTF-16 with a mark
    "UTF-8": lambda text: text.encode(),
    "UTF-8 with a mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "UTF-16": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "UTF-16 BE": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CRLF in UTF-16": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
    "empty lines": lambda text: b"\n\n" + text.encode() + b"\n\n",
}
SPELLED = [name for name in SAVED if name != "empty lines"]  # for a caption, whose first line is trained on


@given(st.binary(max_size=40))
def test_decoding_gives_text_or_a_reason(data):
    try:
        text = decode_text(data)
    except TextFault as fault:
        assert str(fault)
    else:
        if byte_order_mark(data) in ("", "UTF-8"):
            assert text.encode() == data.removeprefix(codecs.BOM_UTF8)


@given(st.text(st.characters(exclude_characters="\0\ufeff", exclude_categories=["Cs"]), max_size=40))
def test_a_text_is_the_same_in_every_encoding_with_a_mark(text):
    for codec in ("utf-8-sig", "utf-16", "utf-32"):
        assert decode_text(text.encode(codec)) == text


def test_other_encodings_are_read_when_they_are_named():
    data = "smthx, café".encode("cp1252")
    with pytest.raises(TextFault, match="not UTF-8: byte 0xe9 at 10"):
        decode_text(data)
    assert decode_text(data, "cp1252") == "smthx, café"
    assert decode_text("smthx, café".encode(), "cp1252") == "smthx, café", "UTF-8 is tried first"
    with pytest.raises(TextFault, match="not valid cp1252"):
        decode_text(b"\x81", "cp1252")
    assert is_encoding("cp1252") and not any(map(is_encoding, ("utf8ish", "base64", "a\0b")))


@pytest.fixture(params=SAVED)
def saved(request, tmp_path):
    """Writes a text in one of the ways, under a name."""

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(SAVED[request.param](text))
        return path

    return write


def test_a_recipe(saved):
    text = '[[subject]]\ntoken = "zoë"\nclass = "woman"\nfolder = "raw"\n\n[merge]\nabsorb = ["béret"]\n'
    recipe = Recipe.read(saved("prep.toml", text), ORDER)
    assert recipe.subjects[0].token == "zoë" and recipe.tables["merge"] == {"absorb": ["béret"]}


def test_a_taxonomy(saved):
    taxonomy = read_taxonomy(saved("tags.toml", '[synonyms]\n"béret" = ["flat béret"]\n'))
    assert taxonomy.synonyms["flat béret"] == "béret"


def test_labels(saved):
    labels = read_labels(saved("labels.txt", "[pose]\nstanding\nsitting = a séance\n"))
    assert [(one.tag, one.group, one.prompt) for one in labels] == [
        ("standing", "pose", ""),
        ("sitting", "pose", "a séance"),
    ]


def test_prompts(saved):
    found = read_prompts(saved("prompts.txt", "smthx in a café --s 3\n# none\nsmthx\n"), ImageSettings())
    assert (found[0].prompt, found[0].sampling.steps, found[1].prompt) == ("smthx in a café", 3, "smthx") and len(
        found
    ) == 2


def test_a_table_of_tag_counts(saved, request):
    if request.node.callspec.params["saved"] == "empty lines":
        pytest.skip("its first line names the columns")
    priors = read_priors(saved("selected_tags.csv", "name,category,count\ncafé,0,5\ngeneral,9,10\n"), lambda tag: tag)
    assert priors.shares == {"café": 0.5}


def test_a_configuration_and_metadata_of_kohya(saved, tmp_path):
    saved("10_zoë woman/meta.json", '{"a.png": {"caption": "zoë in a café"}}')
    subset = 'image_dir = "10_zoë woman"\nmetadata_file = "10_zoë woman/meta.json"\nnum_repeats = 10\n'
    saved("dataset.toml", f"[[datasets]]\n[[datasets.subsets]]\n{subset}")
    (tmp_path / "10_zoë woman" / "a.png").touch()
    assert detect(tmp_path)
    assert [item.caption for item in read_metadata(tmp_path, "")] == ["zoë in a café"]


@pytest.mark.parametrize("name", SPELLED)
def test_a_caption(tmp_path, name):
    (tmp_path / "a.png").touch()
    (tmp_path / "a.txt").write_bytes(SAVED[name]("zoë in a café\n"))
    assert read_caption(tmp_path / "a.png") == "zoë in a café"
    folder = KohyaFolder(tmp_path, DatasetFolder("train", 1, "zoë", "woman"))
    (image,) = (item for item in read_all([folder]) if hasattr(item, "caption"))
    assert image.text == "zoë in a café" and not image.caption_error


READERS = {
    "prep.toml": lambda path: Recipe.read(path, ORDER),
    "tags.toml": read_taxonomy,
    "labels.txt": read_labels,
    "prompts.txt": lambda path: read_prompts(path, ImageSettings()),
    "selected_tags.csv": lambda path: read_priors(path, lambda tag: tag),
}


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_text_is_named_with_the_reason(tmp_path, name):
    (tmp_path / name).write_bytes("café".encode("latin-1"))
    with pytest.raises(PrepError, match=f"{name}.*not UTF-8: byte 0xe9 at 3"):
        READERS[name](tmp_path / name)


def test_a_file_is_read(tmp_path):
    (tmp_path / "a").write_bytes("a\r\nb".encode("utf-16"))
    assert read_text(tmp_path / "a").splitlines() == ["a", "b"]
