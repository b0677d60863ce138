"""GIT: the array that reaches the model, margins, captions against transformers itself, imagined writing."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import taggers.captioners.git
from pipeline.errors import PrepError
from pipeline.models.store import LocalModel
from pipeline.workspace import Workspace
from taggers.captioners.captioner import PredictedCaption
from taggers.captioners.generate import detokenize
from taggers.captioners.git import Git, letterbox, load_git, remove_writing
from taggers.captioners.model_folder import load_image_processor
from tests.fake import cropped
from tests.tagger_contracts import git_input
from tests.tiny import SPECIAL, WORDS, normal, one_thread, photo, write_blip, write_git, write_processor  # noqa: F401

SHAPES = [(24, 24), (20, 90), (91, 20), (70, 110), (5, 7), (1, 1), (30, 31)]
NAMES = (*SPECIAL, *WORDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_git(tmp_path_factory.mktemp("models") / "tiny-git")


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def framed(image: np.ndarray, fill: str) -> np.ndarray:
    """A square image with margins, one pixel after another."""
    height, width = image.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side, 3), np.uint8)
    for y in range(side):
        for x in range(side):
            inside = 0 <= y - top < height and 0 <= x - left < width
            edge = (
                image[0] if y < top
                else image[-1] if y >= top + height
                else image[:, 0] if x < left
                else image[:, -1]
            )  # fmt: skip
            margin = [255] * 3 if fill == "white" else [int(np.median(edge[:, c])) for c in range(3)]
            square[y, x] = image[y - top, x - left] if inside else margin
    return square


def direct(folder, images):
    """The model as transformers loads it, and the images as it wants them."""
    from transformers import GitForCausalLM

    model = GitForCausalLM.from_pretrained(folder).eval()
    return model, torch.from_numpy(np.stack([git_input(p, 24) for p in images])).float()


def words(row: list[int]) -> str:
    """Tokens as a sentence, with nothing but the list of words."""
    row = row[1 : row.index(3) if 3 in row else None]
    text = " ".join(NAMES[i] for i in row if i >= len(SPECIAL)).replace(" ##", "")
    return detokenize(text.replace(" .", ".").replace(" ,", ","))


def say(workspace, folder, images, **options):
    records = [cropped(workspace, f"{n:03}", image) for n, image in enumerate(images)]
    done = Git(model=str(folder), device="cpu", **options).start(workspace)(records)
    return [one.annotations[0] if one.annotations else None for one in done]


@pytest.mark.parametrize("shape", [*SHAPES, (224, 224), (225, 448)])
def test_the_eye_takes_the_middle_at_224(tmp_path, shape):
    crop = {"do_center_crop": True, "crop_size": {"height": 224, "width": 224}}
    write_processor(tmp_path, "CLIPImageProcessor", {"size": {"shortest_edge": 224}, **crop})
    array = load_image_processor(LocalModel(tmp_path, "x", ""), 224)([photo(*shape)])
    assert array.shape == (1, 3, 224, 224) and array.dtype == torch.float32
    assert np.abs(array[0].numpy() - git_input(photo(*shape), 224)).max() < 1e-5


@pytest.mark.parametrize("pad", ["crop", "edge", "white"])
def test_the_array_that_reaches_the_model(workspace, folder, pad, monkeypatch):
    images = [photo(*shape) for shape in SHAPES]
    git, seen = Git(model=str(folder), device="cpu", pad=pad, max_tokens=2), []
    net = load_git(git, workspace)
    encoder = net.model.git.image_encoder
    encoder.register_forward_pre_hook(lambda m, a, k: seen.append(k.get("pixel_values", *a)), with_kwargs=True)
    monkeypatch.setattr(taggers.captioners.git, "load_git", lambda *_: net)
    git.load(workspace)(images)
    expected = [git_input(p if pad == "crop" else framed(p, pad), 24) for p in images]
    assert np.abs(seen[0].numpy() - np.stack(expected)).max() < 1e-5


@pytest.mark.parametrize("fill", ["edge", "white"])
@pytest.mark.parametrize("shape", SHAPES)
def test_margins_lose_nothing_and_have_the_edges_color(shape, fill):
    image = photo(*shape)
    assert np.array_equal(letterbox(image, fill), framed(image, fill))


def test_crop_loses_the_sides_that_margins_keep(workspace, folder):
    """Two wide images that differ only at the sides."""
    one, two = photo(24, 96), photo(24, 96)
    two[:, :30] = 255 - two[:, :30]
    cut, whole = (say(workspace, folder, [one, two], pad=pad, max_tokens=20) for pad in ("crop", "edge"))
    assert cut[0] == cut[1] and whole[0] != whole[1]


@pytest.mark.parametrize("beams", [1, 3])
def test_captions_are_those_of_transformers_and_longer_than_its_20_tokens(workspace, folder, beams):
    images = [photo(*shape) for shape in SHAPES]
    model, pixels = direct(folder, images)
    ids = model.generate(pixel_values=pixels, max_new_tokens=60, num_beams=beams, do_sample=False).tolist()
    said = say(workspace, folder, images, max_tokens=60, num_beams=beams)
    expected = [words(row) for row in ids]
    assert [one.text if one else "" for one in said] == expected and len(set(expected)) > 3
    assert max(len(row) for row in ids) > 40
    assert {(one.kind, one.category, one.tagger) for one in said if one} == {("caption", "", "git:tiny-git")}


def test_a_batch_says_what_each_image_alone_says(workspace, folder):
    images = [photo(*shape) for shape in SHAPES]
    together = say(workspace, folder, images, max_tokens=30)
    alone = [say(workspace, folder, [image], max_tokens=30)[0] for image in images]
    assert [one.text for one in together] == [one.text for one in alone]
    assert max(abs(a.score - b.score) for a, b in zip(together, alone, strict=True)) <= 1.01e-4  # 4 decimals


def test_the_score_is_the_mean_probability_of_the_tokens(workspace, folder):
    images = [photo(*shape) for shape in SHAPES]
    model, pixels = direct(folder, images)
    for one, pixel in zip(say(workspace, folder, images, max_tokens=30), pixels, strict=True):
        row = model.generate(pixel_values=pixel[None], max_new_tokens=30, do_sample=False)[0].tolist()
        row = row[: row.index(3) + 1] if 3 in row else row
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([row]), pixel_values=pixel[None]).logits[0, -len(row) :].double()
        logs = [logits[n].log_softmax(-1)[token].item() for n, token in enumerate(row[1:])]
        assert one.score == pytest.approx(np.exp(np.mean(logs)), abs=1e-4)


# --- imagined writing ----------------------------------------------------------------------------

PHRASES = [
    ('a man with the words "hello you" on his shirt', "a man"),
    ("a woman with the word 'love' on her shirt standing outside", "a woman standing outside"),
    ("a sign has the letters stop on it", "a sign"),
    ("a shirt and the name smith is on the back", "a shirt"),
    ("a cake with candles and the words happy birthday on it.", "a cake with candles."),
    ("a man wearing a shirt that says adidas", "a man wearing a shirt"),
    ("a man with a sign that says stop on it", "a man"),
    ('a man holding a sign that says "no entry" on it in the rain', "a man holding a sign in the rain"),
    ("a man in a shirt that says 'don't stop' and a hat", "a man in a shirt and a hat"),
    ("a player with the number 23 on his back", "a player"),
    ("a jersey with the number 5 on it , running", "a jersey, running"),
    ('a man with the words "', "a man"),
    ("a man with the words '", "a man"),
    ("a man with the words", "a man"),
    ("a dog word love on it", "a dog"),
    ("a book that says the word cat on it", "a book"),
    ("a book that says'the word \"", "a book"),
    ("a sign with the word's on it", "a sign"),
    ("a sign with the word stop and a man", "a sign and a man"),
    ('a man with the words "a" and "b" on it, smiling', "a man, smiling"),
    ("a dress with the word love on the front of it", "a dress"),
    ("an image with the words i am on a sign behind a man", "an image behind a man"),
    ("A man With The Words HELLO on it", "A man"),
    ("with the words on it", ""),
]
UNTOUCHED = [
    "a man and the letter carrier walk",
    "a red hat with words on it",
    "a hat  with a feather",
    "a woman that reads a book",
    "a woman has the name tag",
    "a man with a dog on the street",
    "two swords on it",
    " a man in the text ",
]


@pytest.mark.parametrize(("caption", "rest"), PHRASES)
def test_phrases_about_writing_go(caption, rest):
    assert remove_writing(caption) == rest


@pytest.mark.parametrize("caption", UNTOUCHED)
def test_other_captions_stay_to_the_letter(caption):
    assert remove_writing(caption) == caption


LEADS = ["with the words", "with the word", "with the letters", "with the number", "with the name", "that says"]
LEADS += ["with a sign that says", "that says the word", "that says'the word"]
THINGS = ['"hello"', "'hello you'", '" hello "', "hello", "happy new year", "23", '"', "'", "", "'s", '"a" and "b"']
PLACES = ["on it", "on her shirt", "in the background", "is on the front of it", "on a sign", "", "on"]
PLAIN = "a man woman , . hat standing street wearing in on the and dog's it's 'old' with".split()  # noqa: SIM905
DANGLING = re.compile(r"\b(with the (words?|letters?|number|name)|that says)\b", re.IGNORECASE)
plain = st.lists(st.sampled_from(PLAIN), max_size=6).map(" ".join)


@given(
    before=plain, lead=st.sampled_from(LEADS), thing=st.sampled_from(THINGS), place=st.sampled_from(PLACES), after=plain
)
@settings(max_examples=600)
def test_no_phrase_and_nothing_dangling_is_left(before, lead, thing, place, after):
    caption = f"{before} {lead} {thing} {place} {after}"
    rest = remove_writing(caption)
    assert not DANGLING.search(rest) and "  " not in rest and rest == rest.strip()
    assert remove_writing(rest) == rest
    assert rest.startswith(" ".join(re.sub(r"\s+(?=[,.])", "", before).split()).strip(" ,")[:5].rstrip())


@given(st.text(alphabet="aeist'\" .,wordth-\n", max_size=60) | plain)
@settings(max_examples=300)
def test_a_caption_without_such_words_is_never_changed(caption):
    if not re.search(r"word|letter|name|number|text|phrase|says", caption):
        assert remove_writing(caption) == caption


def test_cleaning_is_for_textcaps_unless_told_otherwise():
    assert Git(model="microsoft/git-base-textcaps").removes_words and not Git().removes_words
    assert Git(remove_words="on").removes_words
    assert not Git(model="microsoft/git-large-textcaps", remove_words="off").removes_words


def test_cleaned_captions_reach_the_record(workspace, folder, monkeypatch):
    said = [PredictedCaption('a man with the words "hello" on his hat', 0.5, False)]
    monkeypatch.setattr(taggers.captioners.git, "generate_captions", lambda net, style, ready: said * len(ready))
    assert say(workspace, folder, [photo(9, 9)], remove_words="on")[0].text == "a man"
    assert say(workspace, folder, [photo(9, 9)])[0].text == said[0].text


# --- bad folders ---------------------------------------------------------------------------------


def test_bad_folders_are_one_sentence(workspace, folder, tmp_path):
    with pytest.raises(PrepError, match=r"another type of model \(BlipForConditionalGeneration, type blip\)"):
        say(workspace, write_blip(tmp_path / "blip"), [photo(9, 9)])
    films = shutil.copytree(folder, tmp_path / "films")
    plain = json.loads((films / "config.json").read_text())
    (films / "config.json").write_text(json.dumps({**plain, "num_image_with_embedding": 6}))
    with pytest.raises(PrepError, match="captions videos, not images"):
        say(workspace, films, [photo(9, 9)])
    broken = shutil.copytree(folder, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    tensors["output.bias"][9] = np.nan
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(PrepError, match="not numbers"):
        say(workspace, broken, [photo(9, 9)])
