"""Captions fall into the same tokens here, in open_clip and in the tokenizer that the trainer gives the model."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clip_tokens import Tokens

HARD = [
    "",
    " ",
    "smith, apron, kitchen, looking at viewer",
    "1boy, facial hair, :3, (x:1.2), [y], 2024!!, \\(cat\\), ^_^, ||_||",
    "it's what they're, I'd, we've, don't, I'll, I'M, 's, ''t",
    "naïve café, über, ÉCOLE, œuvre, İstanbul, STRASSE, ß, Σίσυφος",
    "cafe\u0301",  # an accent of its own: composed first
    "日本語 タグ, 한국어, עברית, ελληνικά, हिन्दी, ไทย",
    "😀 🏳️‍🌈 ½ ² ① Ⅷ ٣",
    "<b>tags</b> & ampersand",
    "tabs\tand\nnew lines   and\u3000wide spaces ",
    "supercalifragilisticexpialidocious" * 30,
    "a_b-c/d\\e.f__g",
    "don´t ‘quote’ “this” — ever…",
    "x" * 1000,
    "zero\u200bwidth, soft\u00adhyphen, \ufeffbom",
]


@pytest.fixture(scope="module")
def trainers(tmp_path_factory):
    from transformers import CLIPTokenizer

    from pipeline.clip_bpe import tokenizer_files

    folder = tmp_path_factory.mktemp("tokenizer")
    for name, text in tokenizer_files().items():
        (folder / name).write_text(text, encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def openai():
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(clean="lower")


@pytest.mark.parametrize("text", HARD)
def test_the_trainers_tokens(trainers, text):
    assert Tokens.load().ids(text) == trainers(text, add_special_tokens=False).input_ids
    assert Tokens.load().pieces(text) == trainers.tokenize(text)
    assert Tokens.load().count(text) == len(Tokens.load().ids(text))


@pytest.mark.parametrize("text", ["<|endoftext|>", "a <|startoftext|>b<|endoftext|> c", "<|ENDOFTEXT|>", "<|end"])
def test_signs_that_the_tokenizer_gives_a_meaning(trainers, text):
    assert Tokens.load().ids(text) == trainers(text, add_special_tokens=False).input_ids


def mended(text):
    """Whether open_clip would mend the text (encodings, width, invisible signs) before it counts."""
    import ftfy

    return ftfy.fix_text(text) != text


@pytest.mark.parametrize("text", [text for text in HARD if not mended(text)])
def test_open_clips_tokens(openai, text):
    assert Tokens.load().ids(text) == openai.encode(text)


@given(st.text(max_size=80))
def test_any_text_has_the_trainers_tokens(trainers, text):
    assert Tokens.load().ids(text) == trainers(text, add_special_tokens=False).input_ids


@given(st.lists(st.sampled_from(["smith", "facial hair", "1boy", "(x:1.2)", "é", "🙂", "", "don't"])))
def test_counting_many_is_counting_each(tags):
    texts = [", ".join(tags[:n]) for n in range(len(tags) + 1)]
    assert list(Tokens.load().counts(texts)) == [len(Tokens.load().pieces(text)) for text in texts]


def test_known_numbers_and_pieces():
    tokens = Tokens.load()
    # Published many times over: the prompt of Stable Diffusion's announcement.
    astronaut = [320, 8853, 539, 550, 18376, 6765, 320, 4558]
    assert tokens.ids("a photograph of an astronaut riding a horse") == astronaut
    assert tokens.pieces("Smith") == ["smith</w>"]
    assert tokens.pieces("sks, 42") == ["sks</w>", ",</w>", "4</w>", "2</w>"]
    assert tokens.count("") == 0
    assert Tokens.load() is tokens


def test_counting_imports_no_torch():
    code = (
        "import sys; from pipeline.clip_tokens import Tokens; Tokens.load().count('a'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
