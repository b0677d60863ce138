"""VLM: what each model is asked and shown, its answers against transformers itself, and one sentence per bad folder."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

import taggers.captioners.vlm
from pipeline.errors import PrepError
from pipeline.workspace import Workspace
from taggers.captioners.vlm import Vlm, load_vlm
from taggers.captioners.vlm_prompt import CHAT_PROMPT, answer_text, chat_text, fill_prompt
from tests.fake import cropped
from tests.tiny import one_thread, photo  # noqa: F401
from tests.tiny_chat import JOY_CHAT, write_florence, write_joy, write_qwen

SHAPES = [(40, 40), (64, 20), (20, 90), (64, 20), (41, 43)]
ASK = "What is this? Be brief."


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    writers = {"qwen": write_qwen, "joy": write_joy, "florence": write_florence}
    folders = {name: root / f"tiny-{name}" for name in writers}
    for name, write in writers.items():
        folders[name].mkdir()
        write(folders[name])
    return folders


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def say(workspace, folder, images, **options):
    records = [cropped(workspace, f"{n:03}", image) for n, image in enumerate(images)]
    done = Vlm(model=str(folder), device="cpu", **options).start(workspace)(records)
    return [one.annotations[0] if one.annotations else None for one in done]


def direct(folder):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    return AutoModelForImageTextToText.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)


def text_of(processor, row):
    return " ".join(processor.tokenizer.decode(row, skip_special_tokens=True).split())


def qwen_by_the_book(folder, image, tokens):
    """As Qwen's model card has it: the template, the processor and greedy `generate` with the model's penalty."""
    model, processor = direct(folder)
    content = [{"type": "image", "image": Image.fromarray(image)}, {"type": "text", "text": ASK}]
    given = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    row = model.generate(**given, max_new_tokens=tokens, do_sample=False)[0, given["input_ids"].shape[1] :]
    return text_of(processor, row)


def joy_by_the_book(folder, image, tokens):
    """As JoyCaption's card has it: messages of plain text, the image beside them."""
    model, processor = direct(folder)
    messages = [{"role": "system", "content": "You caption."}, {"role": "user", "content": ASK}]
    written = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert written == f"<s><|system|>You caption.<|end|><|user|><image>{ASK}<|end|><|assistant|>"
    given = processor(text=[written.removeprefix("<s>")], images=[Image.fromarray(image)], return_tensors="pt")
    ids = torch.cat([torch.tensor([[1]]), given["input_ids"][given["input_ids"] != 1][None]], 1)  # one <s>
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": given["pixel_values"]}
    row = model.generate(**given, max_new_tokens=tokens, do_sample=False)[0, ids.shape[1] :]
    return text_of(processor, row)


def florence_by_the_book(folder, image, tokens):
    """As Florence-2's card has it, but for its three beams."""
    model, processor = direct(folder)
    given = processor(text="<MORE_DETAILED_CAPTION>", images=Image.fromarray(image), return_tensors="pt")
    row = model.generate(**given, max_new_tokens=tokens, do_sample=False, num_beams=1, early_stopping=False)[0]
    text = processor.decode(row, skip_special_tokens=False)
    # What its processor does to a caption ("pure_text").
    return " ".join(text.replace("<pad>", "").replace("<s>", "").replace("</s>", "").split())


BOOKS = {
    "qwen": (qwen_by_the_book, {"prompt": ASK}),
    "joy": (joy_by_the_book, {"prompt": ASK, "system_prompt": "You caption."}),
    "florence": (florence_by_the_book, {}),
}


@pytest.mark.parametrize("name", BOOKS)
def test_answers_are_those_of_the_models_own_recipe_and_alike_in_any_batch(workspace, models, name):
    """Images of three forms among five; the recipe takes one after another."""
    book, options = BOOKS[name]
    images = [photo(*shape) for shape in SHAPES]
    said = say(workspace, models[name], images, max_tokens=30, **options)
    assert [one.text for one in said] == [book(models[name], image, 30) for image in images]
    alone = [say(workspace, models[name], [image], max_tokens=30, **options)[0] for image in images]
    assert [one.text for one in alone] == [one.text for one in said]
    assert max(abs(a.score - b.score) for a, b in zip(alone, said, strict=True)) <= 1.01e-4  # 4 decimals
    assert len({one.text for one in said}) > 1
    assert {(one.kind, one.category, one.tagger) for one in said} == {("caption", "", f"vlm:tiny-{name}")}


def test_the_question_has_one_start_and_one_image(workspace, models):
    vlm = Vlm(model=str(models["joy"]), device="cpu", prompt=ASK)
    net = load_vlm(vlm, workspace)
    ids = taggers.captioners.vlm.prepare_inputs(vlm, net, ASK, photo(30, 50))["input_ids"][0].tolist()
    assert ids.count(1) == 1 and ids[0] == 1 and ids.count(3) == 16


def test_a_model_without_an_end_of_its_own_takes_the_tokenizers(workspace, models, tmp_path):
    folder = shutil.copytree(models["joy"], tmp_path / "tiny-joy")
    (folder / "generation_config.json").write_text('{"pad_token_id": 0}')
    vlm = Vlm(model=str(folder), device="cpu", prompt=ASK, max_tokens=9)
    net = load_vlm(vlm, workspace)
    assert net.token_format.end_tokens == (2,) and taggers.captioners.vlm.greedy_settings(vlm, net).eos_token_id == [2]
    assert load_vlm(Vlm(model=str(models["qwen"]), device="cpu"), workspace).token_format.end_tokens == (2, 0)


def test_the_score_is_the_mean_probability_of_the_tokens(workspace, models):
    """Against one forward pass of LLaVA over the whole answer."""
    vlm = Vlm(model=str(models["joy"]), device="cpu", prompt=ASK, max_tokens=25)
    net = load_vlm(vlm, workspace)
    (one,) = say(workspace, models["joy"], [photo(40, 40)], prompt=ASK, max_tokens=25)
    given = taggers.captioners.vlm.prepare_inputs(vlm, net, ASK, photo(40, 40))
    row = net.model.generate(**given, max_new_tokens=25, do_sample=False)
    start = given["input_ids"].shape[1]
    with torch.inference_mode():
        logits = net.model(row, pixel_values=given["pixel_values"]).logits[0].double().log_softmax(-1)
    logs = [logits[n - 1, row[0, n]].item() for n in range(start, row.shape[1])]
    assert one.score == pytest.approx(math.exp(sum(logs) / len(logs)), abs=1e-4)


def test_each_record_is_asked_about_its_own_subject_and_order_stays(workspace, models, monkeypatch):
    prompt = "Describe.[ Call the {class} {token}.][ Do not mention {absorbed}.]"
    vlm = Vlm(model=str(models["qwen"]), device="cpu", prompt=prompt, avoid=("long_beard", "hat"), max_tokens=3)
    records = [cropped(workspace, f"{n}", photo(40, 40)) for n in range(4)]
    records[1] = replace(records[1], subject="", role="reg")
    records[2] = replace(records[2], subject="rex", class_name="dog")
    workspace.path(records[3].image.path).unlink()
    asked, inputs = {}, taggers.captioners.vlm.prepare_inputs

    def spy(net, vlm, text, image):
        asked[text] = asked.get(text, 0) + 1
        return inputs(net, vlm, text, image)

    work = vlm.start(workspace)
    monkeypatch.setattr(taggers.captioners.vlm, "prepare_inputs", spy)
    done = work(records)
    assert asked == {
        "Describe. Call the man smith. Do not mention long beard, hat.": 1,
        "Describe.": 1,
        "Describe. Call the dog rex. Do not mention long beard, hat.": 1,
    }
    assert [one.id for one in done] == ["0", "1", "2", "3"]
    assert [bool(one.annotations) for one in done] == [True, True, True, False]
    assert done[3].drop.reason == "image missing"


def test_images_alone_are_asked_without_a_subject(workspace, models):
    vlm = Vlm(model=str(models["qwen"]), device="cpu", prompt=ASK + "[ {token}]", max_tokens=9)
    (said,) = vlm.load(workspace)([photo(40, 40)])
    assert said[0] == say(workspace, models["qwen"], [photo(40, 40)], prompt=ASK, max_tokens=9)[0]


@pytest.mark.parametrize(
    ("prompt", "given", "text"),
    [
        ("Say {token} the {class}.", ("smith", "man", ()), "Say smith the man."),
        ("A[ b {token}] c", ("", "man", ()), "A c"),
        ("A[ b {class}] c", ("", "man", ()), "A b man c"),
        ("A[ {token} {class}]", ("smith", "", ()), "A"),
        ("A [b] c", ("smith", "man", ()), "A [b] c"),
        ("No {absorbed}", ("smith", "man", ("red_hair", " ^_^ ")), "No red hair, ^_^"),
        ("No[ {absorbed}]", ("", "man", ("red_hair",)), "No"),
        ("{token}", ("{class}", "man", ()), "{class}"),
        (CHAT_PROMPT, ("smith", "man", ()), CHAT_PROMPT.replace("[ Do not mention: {absorbed}.]", "")),
    ],
)
def test_the_prompt_is_filled_in(prompt, given, text):
    assert fill_prompt(prompt, *given) == text


@given(st.text(alphabet="ab [](){}", max_size=20), st.text(alphabet="xy[]{}", max_size=5))
@settings(max_examples=200)
def test_filling_in_never_fails_and_leaves_plain_text_alone(prompt, token):
    text = fill_prompt(prompt, token, "man", ["hat"])
    assert text == prompt.strip()  # none of the alphabet's words is a name
    assert fill_prompt(prompt + "{token}", token, "", []) == (prompt + "{token}").strip().replace("{token}", token)


def test_an_unknown_name_in_the_prompt_is_said():
    with pytest.raises(PrepError, match=r"the prompt has \{subject\}"):
        Vlm(prompt="Describe {subject}.")


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("a man\n\n in a  hat ", "a man in a hat"),
        ("<think>hm, a man?</think>\nA man.", "A man."),
        ("hm</think> A man.", "A man."),
        ("<think>hm, this goes on", ""),
    ],
)
def test_an_answer_is_one_line_without_thoughts(text, rest):
    assert answer_text(text) == rest


# --- templates and bad folders -------------------------------------------------------------------

JOY_PLACE = "('<image>' if message['role'] == 'user' else '') + "


@pytest.mark.parametrize(
    "chat",
    [
        JOY_CHAT,
        JOY_CHAT.replace(JOY_PLACE, ""),  # leaves the place to the caller
        JOY_CHAT.replace(
            "('<image>' if message['role'] == 'user' else '') + message['content']", "message.content | trim"
        ),
        JOY_CHAT.replace(
            "{{ " + JOY_PLACE + "message['content'] }}",
            "{% for part in message.content %}{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}",
        ),
    ],
)
def test_templates_of_any_kind_give_the_image_one_place(workspace, models, tmp_path, chat):
    folder = shutil.copytree(models["joy"], tmp_path / "x")
    (folder / "chat_template.jinja").write_text(chat)
    vlm = Vlm(model=str(folder), device="cpu", prompt=ASK, system_prompt="You caption.")
    written = chat_text(load_vlm(vlm, workspace).processor, vlm.system_prompt, ASK)
    written = written.replace("<image>\n", "<image>")
    assert written == f"<s><|system|>You caption.<|end|><|user|><image>{ASK}<|end|><|assistant|>"


def config(**changes):
    def spoil(folder):
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return spoil


def nan(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors[next(name for name in tensors if name.endswith("norm.weight"))][:] = math.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def no_place(folder):
    (folder / "chat_template.jinja").write_text("{{ 'nothing' }}")


def no_processor(folder):
    (folder / "processor_config.json").unlink()


def only_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


BAD = {
    "no images": (config(model_type="bert"), "another type of model (type bert)"),
    "a captioner": (config(model_type="blip"), "a captioner that takes no questions (type blip)"),
    "own program": (
        config(model_type="own", auto_map={"AutoConfig": "own.Own"}),
        "type own, with its own code, which prep does not run",
    ),
    "nan": (nan, "gives scores that are not numbers (nan)"),
    "no place for the image": (no_place, "no place for an image"),
    "no processor": (no_processor, "cannot be loaded"),
    "pickle": (only_pickle, "a pickle, which could run any code"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "lacks tokenizer.json"),
    "half a file": (
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:999]),
        "is incomplete or damaged",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_folder_is_one_sentence_and_what_to_do(workspace, models, tmp_path, name):
    spoil, expected = BAD[name]
    bad = shutil.copytree(models["qwen"], tmp_path / "bad")
    spoil(bad)
    with pytest.raises(PrepError) as caught:
        say(workspace, bad, [photo(40, 40)])
    assert expected in caught.value.wrong and "\n" not in caught.value.wrong and caught.value.hint


def test_code_in_a_folder_is_never_run(workspace, models, tmp_path):
    bad = shutil.copytree(models["qwen"], tmp_path / "bad")
    (bad / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    config(auto_map={"AutoConfig": "own.Own", "AutoModelForImageTextToText": "own.Own", "AutoProcessor": "own.Own"})(
        bad
    )
    assert say(workspace, bad, [photo(40, 40)], max_tokens=3)
    assert not (tmp_path / "ran").exists()


def test_chance_in_the_models_settings_is_not_taken(workspace, models):
    plain = json.loads((models["qwen"] / "generation_config.json").read_text())
    assert plain["do_sample"] and plain["repetition_penalty"] == 1.05
    images = [photo(40, 40)]
    first = say(workspace, models["qwen"], images, max_tokens=40)
    torch.manual_seed(1)
    assert say(workspace, models["qwen"], images, max_tokens=40) == first
