"""Prompts as conditions: diffusers' own where it has the same meaning, else WebUI's formulas written out."""

from __future__ import annotations

import copy

import diffusers
import pytest
import torch
from safetensors.torch import save_file

from tests.training_set import checkpoint, narrow, workspace
from training.models.families import detect_family
from training.models.family import TextSettings
from training.models.parts import quiet
from training.sampling.embeddings import EmbeddingLibrary, list_embeddings
from training.sampling.prompt.schedule import Evaluations
from training.sampling.text_conditioning import CaptionEncoder, PromptEncoder, PromptSettings, warn_of_cut

KINDS = ("sd1", "sd2", "sdxl", "sd35")
START, END = 49406, 49407


class Opened:
    """A narrow base model with its text encoders."""

    def __init__(self, folder, kind):
        self.model = checkpoint(workspace(folder), str(narrow(kind)))
        self.family = detect_family(self.model)
        self.tokenizers = self.model.tokenizers()
        self.encoders = {part: self.model.load(part) for part in self.model.encoders()}
        self.hidden = {part: self.model.config(part)["hidden_size"] for part in self.family.encoders[:2]}

    def encoder(self, embeddings=None, **settings):
        return PromptEncoder(self.family, self.tokenizers, self.encoders, PromptSettings(**settings), embeddings)

    def text(self, prompt, **settings):
        """The condition of the first evaluation."""
        ((_, condition),) = self.encoder(**settings).encode(prompt, "", Evaluations(10)).at(0).parts
        return condition["text"]

    def ids(self, text):
        return self.tokenizers["text_encoder"](text, add_special_tokens=False).input_ids

    def outputs(self, *rows):
        """Stable Diffusion 1's encoder applied to rows of tokens, without anything of ours."""
        full = torch.tensor([[START, *row, END, *[END] * (75 - len(row))] for row in rows])
        with torch.no_grad():
            return self.encoders["text_encoder"](full).last_hidden_state


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    return {kind: Opened(tmp_path_factory.mktemp("base"), kind) for kind in KINDS}


@pytest.fixture
def sd1(bases):
    return bases["sd1"]


@pytest.fixture
def biased(sd1):
    """Stable Diffusion 1 with outputs whose mean is not 0, as those of CLIP: the narrow encoder has no bias."""
    found = copy.copy(sd1)
    found.encoders = copy.deepcopy(sd1.encoders)
    encoder = found.encoders["text_encoder"]
    with torch.no_grad():
        getattr(encoder, "text_model", encoder).final_layer_norm.bias += 0.3
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_plain_prompts_are_those_of_diffusers_pipeline(bases, kind):
    quiet()
    pipe = getattr(diffusers, bases[kind].family.pipeline).from_pretrained(narrow(kind), local_files_only=True)
    found = bases[kind].encoder().encode("a photo of smith, man", "hat", Evaluations(4)).at(3)
    with torch.no_grad():
        if kind in ("sd1", "sd2"):
            theirs = pipe.encode_prompt("a photo of smith, man", "cpu", 1, True, "hat")
        elif kind == "sdxl":
            theirs = pipe.encode_prompt("a photo of smith, man", negative_prompt="hat")
        else:
            theirs = pipe.encode_prompt("a photo of smith, man", None, None, negative_prompt="hat")
    ((weight, condition),) = found.parts
    assert weight == 1.0
    torch.testing.assert_close(condition["text"], theirs[0])
    torch.testing.assert_close(found.negative["text"], theirs[1])
    if "pooled" in condition:
        torch.testing.assert_close(condition["pooled"], theirs[2])
        torch.testing.assert_close(found.negative["pooled"], theirs[3])


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_negative_prompt_is_zeros_with_sdxl_only(bases, kind):
    found = bases[kind].encoder().encode("hat", "", Evaluations(4)).at(0).negative
    assert (not found["text"].any()) == (kind == "sdxl")
    assert bases[kind].encoder().encode("", "", Evaluations(4)).at(0).parts[0][1]["text"].any()
    if kind == "sdxl":
        assert not found["pooled"].any()


@pytest.mark.parametrize("prompt", ["a photo of (man:1)", "a photo of ((man:2):0.5)", "a photo of (man:1.0)"])
def test_weight_one_is_no_emphasis(bases, prompt):
    for kind in ("sd1", "sdxl"):
        assert torch.equal(bases[kind].text(prompt), bases[kind].text("a photo of man"))


def test_emphasis_multiplies_and_restores_the_mean(biased):
    (plain,) = biased.outputs(biased.ids("a") + biased.ids("hat"))
    weights = torch.ones(77)
    weights[2] = 1.5
    weighted = plain * weights[:, None]
    torch.testing.assert_close(biased.text("a (hat:1.5)", emphasis="no_norm")[0], weighted)
    torch.testing.assert_close(biased.text("a (hat:1.5)")[0], weighted * plain.mean() / weighted.mean())
    torch.testing.assert_close(biased.text("a (hat:1.5)", emphasis="ignore")[0], plain)
    (literal,) = biased.outputs(biased.ids("a (hat:1.5)"))
    torch.testing.assert_close(biased.text("a (hat:1.5)", emphasis="none")[0], literal)


def test_the_mean_is_one_over_all_texts_of_a_schedule(biased):
    """[a|b] of three evaluations has the texts a, b, a: a counts twice."""
    found = biased.encoder().encode("[(hat:1.5)|man]", "", Evaluations(3))
    hat, man = biased.outputs(biased.ids("hat"), biased.ids("man"))
    weights = torch.ones(77)
    weights[1] = 1.5
    weighted = hat * weights[:, None]
    scale = (2 * hat.mean() + man.mean()) / (2 * weighted.mean() + man.mean())
    texts = [found.at(k).parts[0][1]["text"][0] for k in range(3)]
    torch.testing.assert_close(texts[0], weighted * scale)
    torch.testing.assert_close(texts[1], weighted * scale)
    torch.testing.assert_close(texts[2], man * scale)


def test_outputs_without_a_mean_are_not_scaled(sd1):
    """The ratio of two means of nearly 0 would be any number."""
    assert torch.equal(sd1.text("a (hat:1.5)"), sd1.text("a (hat:1.5)", emphasis="no_norm"))


def test_sdxl_restores_the_mean_of_each_encoder_and_pools_the_unweighted_text(bases):
    base = bases["sdxl"]
    plain, found = (
        base.encoder().encode(prompt, "x", Evaluations(1)).at(0).parts[0][1] for prompt in ("a hat", "a (hat:1.5)")
    )
    weights = torch.ones(77)
    weights[2] = 1.5
    first = base.hidden["text_encoder"]
    for part in (slice(0, first), slice(first, None)):
        weighted = plain["text"][..., part] * weights[None, :, None]
        wanted = weighted * plain["text"][..., part].mean() / weighted.mean()
        torch.testing.assert_close(found["text"][..., part], wanted)
    assert torch.equal(found["pooled"], plain["pooled"])


def test_long_prompts_are_chunks_side_by_side(sd1):
    long = " ".join(["man"] * 80)
    found = sd1.text(long)
    man = sd1.ids("man") * 80
    assert found.shape[1] == 154
    torch.testing.assert_close(found, sd1.outputs(man[:75], man[75:]).flatten(0, 1)[None])
    torch.testing.assert_close(
        sd1.text("hat BREAK man"), sd1.outputs(sd1.ids("hat"), sd1.ids("man")).flatten(0, 1)[None]
    )


def test_a_shorter_text_of_a_schedule_gets_empty_chunks(sd1):
    found = sd1.encoder().encode("[hat:hat BREAK man:1]", "", Evaluations(4))
    first, last = (found.at(k).parts[0][1]["text"] for k in (0, 3))
    torch.testing.assert_close(first, sd1.outputs(sd1.ids("hat"), []).flatten(0, 1)[None])
    torch.testing.assert_close(last, sd1.outputs(sd1.ids("hat"), sd1.ids("man")).flatten(0, 1)[None])


@pytest.mark.parametrize("kind", KINDS)
def test_parts_have_weights_and_one_length(bases, kind):
    guided = bases[kind].encoder().encode("hat AND man BREAK hat:0.5 AND a:-1", "x", Evaluations(4)).at(0)
    assert [weight for weight, _ in guided.parts] == [1.0, 0.5, -1.0]
    assert len({condition["text"].shape for _, condition in guided.parts}) == 1
    if kind == "sd1":
        short = guided.parts[0][1]["text"]
        assert torch.equal(short[:, 77:], short[:, 76:77].expand(1, 77, -1))
        assert guided.negative["text"].shape[1] == 77


def test_the_shorter_prompt_may_get_empty_chunks(sd1):
    guided = sd1.encoder(pad_shorter=True).encode("hat BREAK man", "x", Evaluations(4)).at(0)
    torch.testing.assert_close(guided.negative["text"], sd1.outputs(sd1.ids("x"), []).flatten(0, 1)[None])


def test_clip_skip_is_for_stable_diffusion_1_only(bases):
    with torch.no_grad():
        encoder = bases["sd1"].encoders["text_encoder"]
        ids = torch.tensor([[START, *bases["sd1"].ids("hat"), *[END] * 75]])
        inner = getattr(encoder, "text_model", encoder)
        wanted = inner.final_layer_norm(encoder(ids, output_hidden_states=True).hidden_states[-2])
    torch.testing.assert_close(bases["sd1"].text("hat", clip_skip=2), wanted)
    for kind in ("sd2", "sdxl"):
        assert torch.equal(bases[kind].text("hat", clip_skip=2), bases[kind].text("hat"))


def test_each_text_is_encoded_once_and_independently_of_others(sd1):
    calls = []
    hook = sd1.encoders["text_encoder"].register_forward_hook(lambda *_: calls.append(1))
    try:
        encoder = sd1.encoder()
        first = encoder.encode("[hat|man]", "a", Evaluations(20))
        again = encoder.encode("[hat|man]", "a", Evaluations(20))
    finally:
        hook.remove()
    assert len(calls) == 3
    assert first.at(0).parts[0][1] is again.at(0).parts[0][1]
    alone = sd1.encoder().encode("hat", "a", Evaluations(20)).at(0).parts[0][1]["text"]
    assert torch.equal(first.at(0).parts[0][1]["text"], alone)


def test_editing_and_alternation_by_evaluation(sd1):
    found = sd1.encoder().encode("[hat:man:3]", "[a:hat:0.5]", Evaluations(10))
    words = {word: sd1.text(word) for word in ("hat", "man", "a")}
    for k in range(10):
        assert torch.equal(found.at(k).parts[0][1]["text"], words["hat" if k <= 3 else "man"])
        assert torch.equal(found.at(k).negative["text"], words["a" if k <= 5 else "hat"])


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_an_embedding_takes_the_place_of_its_name(tmp_path, bases, kind):
    base = bases[kind]
    names = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}
    table = {part: encoder.get_input_embeddings().weight for part, encoder in base.encoders.items()}
    man = base.ids("man") + base.ids("hat")
    vectors = {part: weight[man].detach().clone() for part, weight in table.items()}
    save_file(
        {"emb_params": vectors["text_encoder"]}
        if kind == "sd1"
        else {names[part]: value for part, value in vectors.items()},
        tmp_path / "Qz.safetensors",
    )
    library = EmbeddingLibrary.open(list_embeddings([tmp_path]), base.hidden, base.tokenizers["text_encoder"])
    found = base.encoder(library).encode("a qz, apron", "x", Evaluations(1)).at(0).parts[0][1]
    wanted = base.encoder().encode("a man hat, apron", "x", Evaluations(1)).at(0).parts[0][1]
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name])
    assert [path.name for path in library.used] == ["Qz.safetensors"]
    assert torch.equal(base.text("a qz"), base.encoder().encode("a qz", "x", Evaluations(1)).at(0).parts[0][1]["text"])


def test_an_embedding_for_another_base_is_a_word_and_told(tmp_path, sd1, caplog):
    save_file({"emb_params": torch.zeros(1, 5)}, tmp_path / "qz.safetensors")
    library = EmbeddingLibrary.open(list_embeddings([tmp_path]), sd1.hidden, sd1.tokenizers["text_encoder"])
    found = sd1.encoder(library).encode("a qz qz", "x", Evaluations(1)).at(0).parts[0][1]["text"]
    assert torch.equal(found, sd1.text("a qz qz"))
    assert len([record for record in caplog.records if "qz" in record.getMessage()]) == 1
    assert not library.used


def test_a_prompt_that_is_cut_is_told(bases, caplog):
    warn_of_cut.cache_clear()
    bases["sd35"].text("man " * 100)
    assert "first 75 tokens" in caplog.text


def test_brackets_that_a_family_reads_as_text_are_told(bases, caplog):
    bases["sd35"].text("a (man:1.2)")
    assert "brackets" in caplog.text


@pytest.mark.parametrize("settings", [TextSettings(), TextSettings(150, 2, True), TextSettings(225)])
def test_samples_read_prompts_as_training_reads_captions(bases, settings, caplog):
    base, long = bases["sd1"], "(hat:1.9), man " * 40
    warn_of_cut.cache_clear()
    encoder = CaptionEncoder(base.family, base.tokenizers, base.encoders, settings)
    found = encoder.encode(long, "a", Evaluations(10))
    with torch.no_grad():
        wanted = base.family.encode_text(base.tokenizers, base.encoders, [long, "a"], settings)["text"]
    for evaluation in (0, 9):
        guided = found.at(evaluation)
        torch.testing.assert_close(guided.parts[0][1]["text"], wanted[:1])
        torch.testing.assert_close(guided.negative["text"], wanted[1:])
    assert [weight for weight, _ in guided.parts] == [1.0]
    assert ("tokens of this prompt" in caplog.text) == base.family.too_long(base.tokenizers, long, settings)
