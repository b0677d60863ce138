"""BLIP: the array that reaches the model, captions against transformers itself, and one sentence per bad folder."""

import json
import logging
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import taggers.captioners.blip
import taggers.captioners.model_folder
from pipeline.errors import PrepError
from pipeline.models.store import LocalModel
from pipeline.workspace import Workspace
from taggers.captioners.blip import Blip, image_token, load_blip
from taggers.captioners.generate import detokenize, image_seed, nucleus_sampler
from taggers.captioners.model_folder import load_image_processor
from tests.fake import cropped
from tests.tagger_contracts import blip_input
from tests.tiny import SPECIAL, WORDS, normal, one_thread, photo, write_blip, write_blip2, write_git, write_processor  # noqa: F401

SHAPES = [(32, 32), (20, 90), (90, 20), (200, 300), (5, 7), (1, 1)]
NAMES = (*SPECIAL, *WORDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_blip(tmp_path_factory.mktemp("models") / "tiny-blip")


@pytest.fixture(scope="module")
def folder2(tmp_path_factory):
    return write_blip2(tmp_path_factory.mktemp("models") / "tiny-blip2")


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def direct(folder, images, side=32):
    """The model as transformers loads it, and the images as it wants them."""
    from transformers import BlipForConditionalGeneration

    model = BlipForConditionalGeneration.from_pretrained(folder).eval()
    return model, torch.from_numpy(np.stack([blip_input(p, side) for p in images])).float()


def words(ids: list[int]) -> str:
    """Tokens as a sentence, with nothing but the list of words: pieces that start with ## belong to the one before."""
    text = " ".join(NAMES[i] for i in ids if len(SPECIAL) <= i < len(NAMES)).replace(" ##", "")
    return detokenize(text.replace(" .", ".").replace(" ,", ","))


def say(workspace, folder, images, prompt="", **options):
    """Captions through the whole tagger, without a prompt unless one is given: files, records, batches."""
    records = [cropped(workspace, f"{n:03}", image) for n, image in enumerate(images)]
    done = Blip(model=str(folder), device="cpu", prompt=prompt, **options).start(workspace)(records)
    return [one.annotations[0] if one.annotations else None for one in done]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_eye_squashes_to_384_bicubically(tmp_path, shape):
    write_processor(tmp_path, "BlipImageProcessor", {"size": {"height": 384, "width": 384}})
    array = load_image_processor(LocalModel(tmp_path, "x", ""), 384)([photo(*shape)])
    assert array.shape == (1, 3, 384, 384) and array.dtype == torch.float32
    assert np.abs(array[0].numpy() - blip_input(photo(*shape), 384)).max() < 1e-5


def test_the_array_that_reaches_the_model(workspace, folder, monkeypatch):
    images = [photo(*shape) for shape in SHAPES]
    blip, seen = Blip(model=str(folder), device="cpu"), []
    net = load_blip(blip, workspace)
    monkeypatch.setattr(taggers.captioners.blip, "load_blip", lambda *_: net)
    net.model.vision_model.register_forward_pre_hook(lambda m, a, k: seen.append(k["pixel_values"]), with_kwargs=True)
    blip.load(workspace)(images)
    assert np.abs(torch.cat(seen).numpy() - np.stack([blip_input(p, 32) for p in images])).max() < 1e-5


@pytest.mark.parametrize("beams", [1, 3])
def test_captions_are_those_of_transformers_and_longer_than_its_20_tokens(workspace, folder, beams):
    images = [photo(*shape) for shape in SHAPES]
    model, pixels = direct(folder, images)
    ids = model.generate(pixels, max_new_tokens=60, num_beams=beams, do_sample=False).tolist()
    said = say(workspace, folder, images, max_tokens=60, num_beams=beams)
    expected = [words(row[: row.index(3) if 3 in row else None]) for row in ids]
    assert [one.text for one in said] == expected and len(set(expected)) > 3
    assert max(len(row) for row in ids) > 40
    assert {(one.kind, one.category, one.tagger) for one in said} == {("caption", "", "blip:tiny-blip")}


@pytest.mark.parametrize("beams", [1, 3])
def test_the_score_is_the_mean_probability_of_the_tokens(workspace, folder, beams):
    """Against the model's own forward pass over the finished caption, not its generation."""
    images = [photo(*shape) for shape in SHAPES]
    model, pixels = direct(folder, images)
    said = say(workspace, folder, images, max_tokens=30, num_beams=beams)
    for one, pixel in zip(said, pixels, strict=True):
        row = model.generate(pixel[None], max_new_tokens=30, num_beams=beams, do_sample=False)[0].tolist()
        row = row[: row.index(3) + 1] if 3 in row else row
        with torch.inference_mode():
            logits = model(pixel[None], input_ids=torch.tensor([row])).logits[0].double()
        logs = [logits[n].log_softmax(-1)[token].item() for n, token in enumerate(row[1:])]
        assert one.score == pytest.approx(math.exp(sum(logs) / len(logs)), abs=1e-4)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"sample": True}, {"prompt": "a photo of"}], ids=str)
def test_a_batch_says_what_each_image_alone_says(workspace, folder, options):
    images = [photo(*shape) for shape in SHAPES]
    together = say(workspace, folder, images, max_tokens=30, **options)
    alone = [say(workspace, folder, [image], max_tokens=30, **options)[0] for image in images]
    assert [one and one.text for one in together] == [one and one.text for one in alone]
    for a, b in zip(together, alone, strict=True):
        assert a is b is None or abs(a.score - b.score) <= 1.01e-4  # rounded to 4 decimals


def test_the_prompt_is_gone_on_from_and_left_out(workspace, folder):
    from transformers import AutoTokenizer

    images = [photo(*shape) for shape in SHAPES]
    model, pixels = direct(folder, images)
    prompt = torch.tensor([AutoTokenizer.from_pretrained(folder)("a photo of")["input_ids"]] * len(images))
    assert prompt[0].tolist() == [2, NAMES.index("a"), NAMES.index("photo"), NAMES.index("of"), 3]
    ids = model.generate(pixels, input_ids=prompt.clone(), max_new_tokens=25).tolist()
    expected = [words(row[4 : row.index(3) if 3 in row else None]) for row in ids]
    said = say(workspace, folder, images, max_tokens=25, prompt="a photo of")
    assert [one.text if one else "" for one in said] == expected
    kept = say(workspace, folder, images, max_tokens=25, prompt="a photo of", keep_prompt=True)
    assert [one.text for one in kept] == [f"a photo of {text}".strip() for text in expected]


def test_without_a_prompt_of_the_users_the_authors_is_used(workspace, folder, folder2):
    """Salesforce's BLIP learned to continue 'a picture of '; its words are cut off again. BLIP-2 has none."""
    images = [photo(*shape) for shape in SHAPES]
    authors = say(workspace, folder, images, prompt="a picture of ", max_tokens=25)
    assert say(workspace, folder, images, prompt="auto", max_tokens=25) == authors
    assert authors != say(workspace, folder, images, max_tokens=25)
    kept = say(workspace, folder, images, prompt="auto", max_tokens=25, keep_prompt=True)
    assert [one.text for one in kept] == [f"a picture of {one.text if one else ''}".strip() for one in authors]
    assert Blip().prompt == "auto"
    plain = say(workspace, folder2, images, max_tokens=25)
    assert say(workspace, folder2, images, prompt="auto", max_tokens=25) == plain


def test_sampling_has_the_authors_penalty_unless_another_is_given(workspace, folder, folder2):
    images = [photo(*shape) for shape in SHAPES]
    sampled = {
        penalty: say(workspace, folder, images, sample=True, max_tokens=40, repetition_penalty=penalty)
        for penalty in (0, 1, 1.1)
    }
    assert sampled[0] == sampled[1.1] != sampled[1]
    greedy = [say(workspace, folder, images, max_tokens=40, repetition_penalty=penalty) for penalty in (0, 1)]
    assert greedy[0] == greedy[1]
    blip2 = [say(workspace, folder2, images, sample=True, repetition_penalty=penalty) for penalty in (0, 1)]
    assert blip2[0] == blip2[1]
    with pytest.raises(PrepError, match="reward repetitions"):
        Blip(repetition_penalty=0.5)


def test_fewest_tokens_and_penalty_are_transformers_own(workspace, folder):
    images = [photo(*shape) for shape in SHAPES]
    model, pixels = direct(folder, images)
    ids = model.generate(pixels, max_new_tokens=25, min_new_tokens=9, repetition_penalty=1.6, do_sample=False).tolist()
    said = say(workspace, folder, images, max_tokens=25, min_tokens=9, repetition_penalty=1.6)
    assert [one.text for one in said] == [words(row[: row.index(3) if 3 in row else None]) for row in ids]
    assert said != say(workspace, folder, images, max_tokens=25)


def test_drawn_captions_come_from_the_pixels_and_the_seed(workspace, folder):
    images = [photo(*shape) for shape in SHAPES]
    first = say(workspace, folder, images, sample=True, max_tokens=20)
    assert say(workspace, folder, images[::-1], sample=True, max_tokens=20) == first[::-1]
    assert say(workspace, folder, images, sample=True, max_tokens=20, seed=1) != first
    assert say(workspace, folder, images, max_tokens=20) != first
    assert image_seed(0, np.zeros((2, 3, 3), np.uint8)) != image_seed(0, np.zeros((3, 2, 3), np.uint8))


def test_drawing_has_the_nucleus_probabilities():
    """20,000 draws against the probabilities by hand: the likeliest words whose sum reaches top_p, made one again."""
    p = np.array([0.4, 0.25, 0.2, 0.1, 0.05])
    draw = nucleus_sampler(0.8, [3])
    scores = torch.from_numpy(np.log(p))[None].float()
    counts = np.bincount([int(draw(None, scores).argmax()) for _ in range(20_000)], minlength=5) / 20_000
    assert np.abs(counts - np.array([0.4, 0.25, 0.2, 0, 0]) / 0.85).max() < 0.012  # 3.4 deviations
    assert counts[3] == counts[4] == 0


def test_a_caption_that_the_limit_ends_is_said(workspace, folder, caplog):
    with caplog.at_level(logging.WARNING, "prep"):
        say(workspace, folder, [photo(*shape) for shape in SHAPES], max_tokens=1)
    assert any("blip:tiny-blip: 6 of 6 captions were cut at 1 tokens" in r.message for r in caplog.records)


def test_a_model_that_says_nothing_gives_no_caption(workspace, tmp_path, caplog):
    silent = write_blip(tmp_path / "silent", end=1000.0)
    assert say(workspace, silent, [photo(9, 9)]) == [None] and not caplog.records


# --- BLIP-2 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["", "a photo of"])
def test_blip2_says_what_transformers_and_its_processor_say(workspace, folder2, prompt):
    from transformers import Blip2ForConditionalGeneration, Blip2Processor

    images = [photo(*shape) for shape in SHAPES]
    model = Blip2ForConditionalGeneration.from_pretrained(folder2).eval()
    processor = Blip2Processor.from_pretrained(folder2)
    given = processor(
        text=[prompt] * len(images), images=images, return_tensors="pt", input_data_format="channels_last"
    )
    given["pixel_values"] = torch.from_numpy(np.stack([blip_input(p, 16) for p in images])).float()
    ids = model.generate(**given, max_new_tokens=30, do_sample=False)[:, given["input_ids"].shape[1] :]
    expected = [" ".join(text.split()) for text in processor.batch_decode(ids, skip_special_tokens=True)]
    said = say(workspace, folder2, images, max_tokens=30, prompt=prompt)
    assert [one.text if one else "" for one in said] == expected and len(set(expected)) > 2
    assert {one.tagger for one in said if one} == {"blip:tiny-blip2"}
    if not prompt:
        free = model.generate(given["pixel_values"], max_new_tokens=30, do_sample=False)
        assert [" ".join(t.split()) for t in processor.batch_decode(free, skip_special_tokens=True)] == expected


def test_blip2_with_an_encoder_says_what_transformers_says(workspace, tmp_path):
    """The answer of T5 starts with a token of its own and does not repeat the prompt."""
    from transformers import Blip2ForConditionalGeneration, Blip2Processor

    folder = write_blip2(tmp_path / "t5", language="t5")
    images = [photo(*shape) for shape in SHAPES]
    model, processor = Blip2ForConditionalGeneration.from_pretrained(folder), Blip2Processor.from_pretrained(folder)
    given = processor(text=["a photo of"] * 6, images=images, return_tensors="pt", input_data_format="channels_last")
    given["pixel_values"] = torch.from_numpy(np.stack([blip_input(p, 16) for p in images])).float()
    ids = model.eval().generate(**given, max_new_tokens=30, do_sample=False)
    said = say(workspace, folder, images, max_tokens=30, prompt="a photo of")
    expected = [" ".join(text.split()) for text in processor.batch_decode(ids, skip_special_tokens=True)]
    assert [one.text if one else "" for one in said] == expected and len(set(expected)) > 2


def test_blip2_of_an_old_revision_keeps_the_queries_places_with_a_spare_token(workspace, folder2, tmp_path):
    """Old revisions name no image token; what it is makes no difference, as its vector is overwritten."""
    images = [photo(*shape) for shape in SHAPES]
    old = shutil.copytree(folder2, tmp_path / "tiny-blip2")
    config(image_token_index=None)(old)
    assert say(workspace, old, images, max_tokens=9) == say(workspace, folder2, images, max_tokens=9)
    full = SimpleNamespace(image_token_index=None, text_config=SimpleNamespace(vocab_size=50265))
    with pytest.raises(PrepError, match="no token is free"):
        image_token(LocalModel(old, "x", ""), full, 50265)


# --- bad folders, memory, devices ----------------------------------------------------------------


def only_pickle(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def without(name):
    return lambda folder: (folder / name).unlink()


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5000])


def put(name, text):
    return lambda folder: (folder / name).write_text(text)


def edited(change):
    def spoil(folder):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return spoil


def config(**changes):
    def spoil(folder):
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return spoil


def nan(tensors):
    tensors["text_decoder.cls.predictions.bias"][7] = math.nan


def shorter(tensors):
    tensors["text_decoder.cls.predictions.bias"] = tensors["text_decoder.cls.predictions.bias"][:-1].clone()


def fewer(tensors):
    del tensors["vision_model.post_layernorm.weight"], tensors["vision_model.post_layernorm.bias"]


SHARDS = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})


def half_the_shards(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(SHARDS)


def outside(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../../x.safetensors"}}))


BAD = {
    "only a pickle": (only_pickle, "pytorch_model.bin, a pickle, which could run any code"),
    "no weights": (without("model.safetensors"), "lacks model.safetensors"),
    "no configuration": (without("config.json"), "lacks config.json"),
    "no tokenizer": (
        lambda f: [(f / n).unlink() for n in ("tokenizer.json", "tokenizer_config.json", "vocab.txt")],
        "",
    ),
    "no processor": (without("preprocessor_config.json"), "cannot be loaded"),
    "half a file": (cut, "is incomplete or damaged"),
    "half the shards": (half_the_shards, "lacks model-00002-of-00002.safetensors"),
    "shards outside": (outside, "does not list the model's files"),
    "pointer": (put("model.safetensors", "version https://git-lfs.github.com/spec/v1\n"), "git-lfs pointer"),
    "text as weights": (put("model.safetensors", "Not Found"), "is incomplete or damaged"),
    "broken configuration": (put("config.json", "{"), "is not a JSON object"),
    "a list as configuration": (put("config.json", "[]"), "is not a JSON object"),
    "a question answerer": (
        config(architectures=["BlipForQuestionAnswering"]),
        "another type of model (BlipForQuestionAnswering",
    ),
    "no class": (config(architectures=None), "another type of model (no class, type blip)"),
    "wrong types": (config(text_config={"hidden_size": "many"}), ""),
    "other sizes": (edited(shorter), "text_decoder.cls.predictions.bias has another size than config.json says"),
    "weights missing": (edited(fewer), "lacks the weights vision_model.post_layernorm.bias and 1 more"),
    "nan": (edited(nan), "gives scores that are not numbers (nan)"),
    "another size of images": (
        lambda f: write_processor(f, "BlipImageProcessor", {"size": {"height": 48, "width": 48}}),
        "makes images of (3, 48, 48), but the model wants 32 x 32",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_folder_is_one_sentence_and_what_to_do(workspace, folder, tmp_path, name):
    spoil, expected = BAD[name]
    bad = shutil.copytree(folder, tmp_path / "bad")
    spoil(bad)
    with pytest.raises(PrepError) as caught:
        say(workspace, bad, [photo(9, 9)])
    assert expected in caught.value.wrong and "\n" not in caught.value.wrong and caught.value.hint


def test_a_model_of_another_family_and_none_at_all(workspace, tmp_path):
    with pytest.raises(PrepError, match=r"another type of model \(GitForCausalLM, type git\)"):
        say(workspace, write_git(tmp_path / "git"), [photo(9, 9)])
    with pytest.raises(PrepError, match="is not on this machine"):
        Blip().models(workspace)


def test_provenance_names_every_file_that_counts(workspace, folder):
    names = [model.name for model in Blip(model=str(folder)).models(workspace)]
    assert {"config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"} <= {
        name.removeprefix("tiny-blip/") for name in names
    }


def test_one_model_signs_alike_under_its_id_and_its_folder():
    assert Blip().signature == "blip:blip-image-captioning-large"
    assert Blip(model="/x/Salesforce--blip-image-captioning-large").signature == Blip().signature


def test_full_memory_halves_the_batch_says_so_and_goes_on(workspace, folder, monkeypatch, caplog):
    """The model's memory has room for two images."""
    from transformers import BlipForConditionalGeneration

    images = [photo(*shape) for shape in SHAPES]
    expected = say(workspace, folder, images, max_tokens=5)
    caplog.clear()
    generate, tried = BlipForConditionalGeneration.generate, []

    def small(model, pixel_values, **given):
        tried.append(len(pixel_values))
        if len(pixel_values) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return generate(model, pixel_values, **given)

    monkeypatch.setattr(BlipForConditionalGeneration, "generate", small)
    assert say(workspace, folder, images, max_tokens=5) == expected
    assert tried == [6, 3, 2, 2, 2]
    said = [record.message for record in caplog.records if "memory" in record.message]
    assert len(said) == 2 and "batch of 6" in said[0]


def test_options_that_exclude_each_other():
    with pytest.raises(PrepError, match="sample and num-beams exclude each other"):
        Blip(sample=True, num_beams=2)
    with pytest.raises(PrepError, match="min-tokens is 9, more than max-tokens, 5"):
        Blip(min_tokens=9, max_tokens=5)


@pytest.mark.parametrize(
    ("apart", "together"),
    [
        ("the man ' s hat", "the man's hat"),
        ("a man in a t - shirt", "a man in a t-shirt"),
        ("they don ' t look", "they don't look"),
        ('a sign with " stop " on it', 'a sign with "stop" on it'),
        ("a  black - and - white cat", "a black-and-white cat"),
        ("a sign ' s ' here", "a sign ' s ' here"),
    ],
)
def test_pieces_are_joined_as_people_write(apart, together):
    assert detokenize(apart) == together


@given(st.lists(st.sampled_from(["man", "cat", "a", "hat.", "old,"]), max_size=9))
@settings(max_examples=50)
def test_words_without_marks_stay_as_they_are(some):
    assert detokenize(" ".join(some)) == " ".join(some)
