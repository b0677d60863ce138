"""Textual inversion: only the new vectors learn, at their rates, and diffusers reads what was saved."""

from __future__ import annotations

import logging

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pipeline.errors import PrepError
from tests.method_set import IMAGES, WIDTHS, losses, materials, trainee
from tests.training_options import train_stage
from tests.training_set import manifest, narrow, placed, sample, workspace
from training.checkpoints.run_folder import RunFolder
from training.distributed import DistributedContext
from training.export.artifacts import ArtifactFolder, write_artifact
from training.methods.textual_inversion import file_stem, usual_vectors, vectors_for
from training.methods.token_embeddings import vocabulary
from training.models.family import TextSettings
from training.optim.train_state import make_train_state


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return workspace(tmp_path_factory.mktemp("w"))


def begin(work, kind="sd1", **options):
    found = materials(work, kind, **{"method": "textual-inversion"} | options)
    return found, trainee(found)


def saved(made, folder, dtype=torch.float32):
    """Settle and write; the drafts by the ends of their names."""
    files = {}
    for end, product in made.finalize(dtype).items():
        files[end] = folder / f"out{end}"
        write_artifact(files[end], product, {"prep": "1"})
    return files


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_only_the_vectors_learn(work, kind):
    found, made = begin(work, kind, num_vectors=3)
    before = {
        f"{part}.{name}": value.clone()
        for part, module in found.modules.items()
        for name, value in module.state_dict().items()
    }
    began = {name: weight.detach().clone() for group in made.param_groups() for name, weight in group.weights.items()}
    errors = losses(found, made, 30)
    assert errors[-1] < 0.999 * errors[0]
    for part, module in found.modules.items():
        assert all(torch.equal(value, before[f"{part}.{name}"]) for name, value in module.state_dict().items())
    learned = {name: weight for group in made.param_groups() for name, weight in group.weights.items()}
    assert learned.keys() == {f"{part}.smith" for part in WIDTHS[kind]}
    assert all(bool((weight != began[name]).any(dim=1).all()) for name, weight in learned.items())  # every vector


def test_vectors_by_the_rule_of_images():
    """Row B5: under 10: 2; 10-30: 2-3; 40-60: 5-6; 60-100: 8-12; over 100: 12-16."""
    bounds = {range(1, 10): (2, 2), range(10, 31): (2, 3), range(40, 61): (5, 6), range(61, 101): (8, 12)}
    bounds |= {range(101, 400): (12, 16)}
    for images, (low, high) in bounds.items():
        counts = [vectors_for(n) for n in images]
        assert (min(counts), max(counts)) == (low, high)
    counts = [vectors_for(n) for n in range(1, 400)]
    assert counts == sorted(counts)
    assert all(
        low <= count <= high for count, (low, high) in zip(counts, map(usual_vectors, range(1, 400)), strict=True)
    )


def test_copies_of_an_image_count_once(work):
    copies = [sample(n, id=f"{n // 5:016x}-{n}") for n in range(100)]
    _, made = begin(work, samples=copies)
    assert [len(weight) for group in made.param_groups() for weight in group.weights.values()] == [3]  # of 20 images


@pytest.mark.parametrize(("options", "count"), [({}, 2), ({"num_vectors": 1}, 1), ({"num_vectors": 7}, 7)])
def test_as_many_vectors_as_wanted(work, options, count):
    _, made = begin(work, **options)
    assert [len(weight) for group in made.param_groups() for weight in group.weights.values()] == [count]


def test_begins_as_the_words_say(work):
    found, made = begin(work, init_text="brown hair", num_vectors=3)
    own = vocabulary(found.modules["text_encoder"])
    brown, hair = (own[token] for token in found.checkpoint.tokenizers()["text_encoder"]("brown hair").input_ids[1:3])
    assert torch.equal(made.embeddings["text_encoder"].vectors["smith"], torch.stack([brown, hair, brown]))
    _, mean = begin(work, init_text="brown hair", num_vectors=2, init_mean=True)
    assert torch.allclose(mean.embeddings["text_encoder"].vectors["smith"], ((brown + hair) / 2).expand(2, -1))
    _, other = begin(work, num_vectors=1)  # the class of the subject
    (man,) = found.checkpoint.tokenizers()["text_encoder"]("man").input_ids[1:2]
    assert torch.equal(other.embeddings["text_encoder"].vectors["smith"][0], own[man])


def test_a_new_vector_reads_as_the_word_it_began_as(work):
    """Before the first step, 'smith' says what 'man' says, in every text encoder."""
    found, _ = begin(work, "sdxl", num_vectors=1)
    with torch.no_grad():
        smith, man = (
            found.family.encode_text(found.tokenizers, found.modules, [text], TextSettings())
            for text in ("a photo of Smith, smithy", "a photo of man, smithy")
        )
    assert all(torch.equal(smith[name], man[name]) for name in smith)


def test_several_subjects_learn_apart(work, tmp_path):
    samples = [*IMAGES, sample(3, subject="jane", caption="jane, image", class_name="woman")]
    found, made = begin(work, samples=samples)
    began = {name: weight.detach().clone() for group in made.param_groups() for name, weight in group.weights.items()}
    assert began.keys() == {"text_encoder.jane", "text_encoder.smith"}
    losses(found, made, 2, "a photo of jane")
    now = {name: weight for group in made.param_groups() for name, weight in group.weights.items()}
    assert not torch.equal(now["text_encoder.jane"], began["text_encoder.jane"])
    losses(found, made, 2, "jane and smith")
    files = saved(made, tmp_path)
    assert sorted(path.name for path in files[""].iterdir()) == ["jane.safetensors", "smith.safetensors"]
    made.verify(files)
    assert file_stem("../a b") == ".._a b"


@pytest.mark.parametrize(("rate", "changes"), [("0.01", 0.01), ("0.001", 0.001)])
def test_rates_act(work, rate, changes):
    """Adam's first step moves each number by the rate."""
    found, made = begin(work, embedding_lr=rate, max_embedding_norm=0.0, weight_decay=0.0)
    before = made.embeddings["text_encoder"].vectors["smith"].detach().clone()
    losses(found, made, 1)
    moved = (made.embeddings["text_encoder"].vectors["smith"].detach() - before).abs()
    assert float(moved.max()) == pytest.approx(changes, rel=1e-3)


def test_a_rate_of_several_steps_is_followed(work):
    _, made = begin(work, embedding_lr="0.05:2, 0.02:3, 0.001")
    learner = make_train_state(
        made.param_groups(), train_stage(method="textual-inversion").config.optimizer, DistributedContext()
    )
    assert [learner.set_learning_rates(step, 10) for step in range(5)] == [0.05, 0.05, 0.02, 0.001, 0.001]


@pytest.mark.parametrize("norm", [0.5, 1.5])
def test_vectors_stay_as_long_as_the_vocabularys(work, norm):
    found, made = begin(work, embedding_lr="0.5", max_embedding_norm=norm)
    usual = float(vocabulary(found.modules["text_encoder"]).norm(dim=1).median())
    losses(found, made, 3)
    assert (
        float(made.embeddings["text_encoder"].vectors["smith"].detach().norm(dim=1).max()) > 2 * usual
    )  # it would be too long
    made.finalize(torch.float32)
    lengths = made.embeddings["text_encoder"].vectors["smith"].norm(dim=1)
    assert torch.allclose(lengths, torch.full_like(lengths, norm * usual))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl", "sd35"])
def test_the_file_is_proven(work, tmp_path, kind, dtype):
    found, made = begin(work, kind, embedding_lr="0.05")
    losses(found, made, 2)
    files = saved(made, tmp_path, dtype)
    made.verify(files)
    tensors = load_file(files[".safetensors"])
    names = {"emb_params": 64} if len(WIDTHS[kind]) == 1 else {"clip_l": 64, "clip_g": 96}
    assert {name: (tuple(value.shape), value.dtype) for name, value in tensors.items()} == {
        name: ((2, width), dtype) for name, width in names.items()
    }
    assert files[".safetensors"].stat().st_size < 100_000
    wrong = {name: value * 2 for name, value in tensors.items()}
    save_file(wrong, files[".safetensors"])
    with pytest.raises(PrepError, match="does not reproduce the trained embedding"):
        made.verify(files)


def test_a_pipeline_of_diffusers_says_the_same(work, tmp_path):
    """The whole way of a user: load_textual_inversion, then the token in a prompt."""
    from diffusers import StableDiffusionPipeline

    found, made = begin(work, embedding_lr="0.05", num_vectors=3)
    losses(found, made, 2)
    files = saved(made, tmp_path)
    with torch.no_grad():
        wanted = found.family.encode_text(found.tokenizers, found.modules, ["a photo of smith, a hat"], TextSettings())[
            "text"
        ]
    pipeline = StableDiffusionPipeline.from_pretrained(narrow(), local_files_only=True)
    plain, _ = pipeline.encode_prompt("a photo of <smith>, a hat", "cpu", 1, False)
    pipeline.load_textual_inversion(str(files[".safetensors"]), token="<smith>")
    loaded, _ = pipeline.encode_prompt("a photo of <smith>, a hat", "cpu", 1, False)
    torch.testing.assert_close(loaded, wanted, atol=1e-5, rtol=1e-5)
    assert float((loaded - plain).detach().abs().max()) > 0.01


def test_an_embedding_that_learned_nothing_is_refused(work, tmp_path):
    _, made = begin(work)
    with pytest.raises(PrepError, match="Training did not change the embedding of smith"):
        made.verify(saved(made, tmp_path))


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_trains_on_from_its_own_file(work, tmp_path, kind):
    found, made = begin(work, kind, embedding_lr="0.05", num_vectors=3)
    losses(found, made, 2)
    file = saved(made, tmp_path)[".safetensors"]
    _, again = begin(work, kind, former=file)
    for part, rows in made.embeddings.items():
        assert torch.equal(again.embeddings[part].vectors["smith"], rows.vectors["smith"])


def test_resumes_from_its_groups_weights(work):
    """What a checkpoint keeps, the groups' weights by name, is all there is to keep."""
    found, made = begin(work, embedding_lr="0.05")
    losses(found, made, 3)
    other_found, other = begin(work, embedding_lr="0.05")
    kept = {name: weight.detach().clone() for group in made.param_groups() for name, weight in group.weights.items()}
    with torch.no_grad():
        for group in other.param_groups():
            for name, weight in group.weights.items():
                weight.copy_(kept[name])
    assert losses(found, made, 1) == losses(other_found, other, 1)


@pytest.mark.parametrize(
    ("samples", "options", "said"),
    [
        ([sample(1, subject="")], {}, "train: textual-inversion needs a token to train, but no image has a subject."),
        (
            [sample(1, caption="goldsmith, smithy")],
            {},
            "train: no caption of smith contains that token, so its embedding would not be trained.",
        ),
        (
            [sample(1, class_name="")],
            {},
            "train: there is no text to initialize the embedding of smith with.",
        ),
    ],
)
def test_sets_that_teach_nothing(work, samples, options, said):
    with pytest.raises(PrepError) as caught:
        begin(work, samples=samples, **options)
    assert caught.value.wrong == said


def test_captions_without_the_token_are_told_of(work, caplog):
    with caplog.at_level(logging.WARNING):
        begin(work, samples=[sample(1), sample(2, caption="a man")])
    assert "1 of 2 captions of smith do not contain the token" in caplog.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"embedding_lr": "fast"},
            "train: embedding_lr: 'fast', number 1 of 1, does not begin with a rate above 0.",
        ),
        (
            {"optimizer": "prodigy", "learning_rate": 1.0},
            "train: learning_rate has no effect with the method textual-inversion.",
        ),
        ({"learning_rate": 1e-3}, "train: learning_rate has no effect with the method textual-inversion."),
        ({"rank": 8}, "train: rank has no effect with the method textual-inversion."),
        (
            {"embedding_lr": "0.1:5, 0.01", "lr_scheduler": "cosine"},
            "train: lr_scheduler cosine has no effect on an embedding_lr that changes at given steps.",
        ),
        (
            {"init_from": "x.pt", "num_vectors": 3},
            "train: num_vectors has no effect: the file given by init_from has its own size.",
        ),
        ({"method": "lora", "num_vectors": 3}, "train: num_vectors has no effect with the method lora."),
        (
            {"method": "dreambooth", "init_from": "x.pt"},
            "train: init_from has no effect with the method dreambooth.",
        ),
    ],
)
def test_options_that_make_no_sense(options, said):
    with pytest.raises(PrepError) as caught:
        train_stage(**{"method": "textual-inversion"} | options)
    assert caught.value.wrong == said


def test_several_subjects_have_no_single_file_to_train_on(work, tmp_path):
    samples = [*IMAGES, sample(3, subject="jane", caption="jane")]
    with pytest.raises(PrepError, match="init_from is one embedding, but the dataset has 2 subjects"):
        begin(work, samples=samples, former=tmp_path / "x.pt")


def test_folders_are_folders(work):
    _, made = begin(work, samples=[*IMAGES, sample(3, subject="jane", caption="jane")])
    assert isinstance(made.finalize(torch.float16)[""], ArtifactFolder)


def test_samples_are_generated_with_what_was_learned(work):
    """The generator, given the tokenizers of training, encodes a prompt as training does."""
    from training.sampling.prompt.schedule import Evaluations
    from training.sampling.text_conditioning import PromptEncoder, PromptSettings

    found, made = begin(work, "sdxl", num_vectors=3, embedding_lr="0.05")
    losses(found, made, 2)
    encoder = PromptEncoder(found.family, found.tokenizers, found.modules, PromptSettings())
    for prompt in ("a photo of smith, a hat", "", "smith " * 20):
        wanted = found.family.encode_text(found.tokenizers, found.modules, [prompt], TextSettings())
        ((weight, condition),) = encoder.encode(prompt, "x", Evaluations(1)).at(0).parts
        assert weight == 1
        torch.testing.assert_close(condition["text"], wanted["text"], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(condition["pooled"], wanted["pooled"], atol=1e-5, rtol=1e-5)


def run(work, made, **options):
    stage = train_stage(
        **{"method": "textual-inversion", "steps": 4, "batch_size": 2, "save_every_epochs": 0} | options
    )
    list(stage.run(made, work, lambda done, total: None))
    return stage


def test_a_whole_run(tmp_path):
    """From manifest to file: the same seed the same bytes, stopped or not, and what it says about itself."""
    work = workspace(tmp_path)
    made = manifest(work, [placed(work, 0), placed(work, 1), placed(work, 2, role="reg")])
    stage = run(work, made, output="v1")
    file = stage.config.folder(work) / "smith.safetensors"  # the word that calls it, not the run's name
    assert RunFolder(file.parent).result == [file]
    assert stage.missing_outputs(made, work) == ""
    assert {name: tuple(value.shape) for name, value in load_file(file).items()} == {"emb_params": (2, 64)}
    with safe_open(file, "pt") as opened:
        said = opened.metadata()
    assert said["modelspec.architecture"] == "stable-diffusion-v1/textual-inversion"
    assert (said["modelspec.trigger_phrase"], said["ss_num_vectors_per_token"]) == ("smith", "2")
    before = file.read_bytes()
    run(work, made, output="v1", steps=2, restart=True)
    assert file.read_bytes() != before
    run(work, made, output="v1")  # goes on from step 2
    assert file.read_bytes() == before


def test_a_whole_run_of_two_subjects(tmp_path):
    work = workspace(tmp_path)
    other = placed(work, 1, subject="jane", caption="jane, image")
    made = manifest(work, [placed(work, 0), other])
    stage = run(work, made, output="both", steps=8)
    folder = stage.config.file(work).with_name("both")
    assert sorted(path.name for path in folder.iterdir()) == ["jane.safetensors", "smith.safetensors"]
    assert stage.missing_outputs(made, work) == ""
    assert not list(folder.parent.glob("*unverified*"))
