"""CLIP: labels, prompts and scores against numpy, embeddings against open_clip itself, the cache, bad files."""

import json
import math
import pickle
import shutil

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file, save_file

import taggers.clip.clip
import taggers.clip.clip_model
from pipeline.errors import PrepError
from pipeline.imaging.image_file import pixel_hash
from pipeline.vectors import VectorStore
from pipeline.workspace import Workspace
from taggers.clip.clip import Clip, embed_labels, label_scores
from taggers.clip.clip_model import embed_images, embed_texts, find_clip, load_clip
from taggers.clip.embeddings import embed_cached
from taggers.clip.labels import BUILT_IN_LABELS, parse_labels
from tests.fake import cropped
from tests.tagger_contracts import coarse_photo
from tests.tiny import CLIP as CONFIG
from tests.tiny import write_clip

LABELS = """\
# what the images show
[medium]
photo = a photograph
oil_painting
sketch

[]
beard | clean shaven face
hat
smile = a smiling face | a sad face
"""
SHAPES = [(32, 32), (90, 60), (40, 200), (31, 7), (1, 1), (300, 300)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("models") / "tiny-clip")


@pytest.fixture
def folder(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "tiny-clip")


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "labels.txt").write_text(LABELS, encoding="utf-8")
    return Workspace(tmp_path)


@pytest.fixture
def calls(monkeypatch):
    """How many images each call of the image tower got."""
    seen = []

    def counted(net, images):
        seen.append(len(images))
        return embed_images(net, images)

    monkeypatch.setattr(taggers.clip.clip, "embed_images", counted)
    return seen


def clip(model, **options):
    return Clip(**{"model": str(model), "labels": "labels.txt", "device": "cpu", "min_score": 0.0} | options)


def said(workspace, tagger, images):
    records = [cropped(workspace, f"{n:03}", image) for n, image in enumerate(images)]
    return [record.annotations for record in tagger.start(workspace)(records)]


def theirs(folder):
    """The same folder through open_clip's own factory."""
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    return model.eval(), transform, open_clip.get_tokenizer(f"local-dir:{folder}")


def test_embeddings_are_open_clips_own(workspace, tiny):
    net = load_clip(find_clip(str(tiny), "", workspace), "cpu")
    model, transform, tokenize = theirs(tiny)
    texts = ["a photo of a hat", "long_hair, 1girl", "naïve café " * 30]
    with torch.no_grad():
        for shape in SHAPES:
            image = coarse_photo(*shape)
            expected = model.encode_image(transform(Image.fromarray(image))[None], normalize=True)[0].numpy()
            assert np.abs(embed_images(net, [image])[0] - expected).max() < 1e-6
        expected = model.encode_text(tokenize(texts), normalize=True).numpy()
    assert np.abs(embed_texts(net, texts) - expected).max() < 1e-6
    assert net.scale == pytest.approx(20.0, rel=1e-5)
    assert np.abs(np.diff(embed_texts(net, texts), axis=0)).max() > 0.05, "the toy must tell texts apart"


def test_the_image_is_prepared_as_the_config_says(workspace, tiny):
    """Squashed to 32 x 32, bicubic, then (x / 255 - mean) / std, channel by channel."""
    net = load_clip(find_clip(str(tiny), "", workspace), "cpu")
    image = coarse_photo(40, 200)
    small = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC)).astype(np.float64)
    expected = ((small / 255 - [0.4, 0.5, 0.6]) / [0.2, 0.25, 0.3]).transpose(2, 0, 1)
    assert np.abs(net.transform(Image.fromarray(image)).numpy() - expected).max() < 1e-6


def test_a_batch_says_what_each_image_says_alone(workspace, tiny):
    net = load_clip(find_clip(str(tiny), "", workspace), "cpu")
    images = [coarse_photo(*shape) for shape in SHAPES]
    alone = np.concatenate([embed_images(net, [image]) for image in images])
    assert np.abs(embed_images(net, images) - alone).max() < 1e-5


def expected_scores(folder, images):
    """Section by section, from open_clip's embeddings and the formula in plain Python."""
    model, transform, tokenize = theirs(folder)

    def text(sentence):
        return model.encode_text(tokenize([sentence]), normalize=True)[0].numpy().astype(np.float64)

    group = ["a photograph", "a photo of oil painting", "a photo of sketch"]
    pairs = [
        ("a photo of beard", "a photo of clean shaven face"),
        ("a photo of hat", "a photo without hat"),
        ("a smiling face", "a sad face"),
    ]
    rows = []
    with torch.no_grad():
        for image in images:
            e = model.encode_image(transform(Image.fromarray(image))[None], normalize=True)[0].numpy()
            powers = [math.exp(20 * float(e @ text(sentence))) for sentence in group]
            row = [power / sum(powers) for power in powers]
            for yes, no in pairs:
                a, b = math.exp(20 * float(e @ text(yes))), math.exp(20 * float(e @ text(no)))
                row.append(a / (a + b))
            rows.append(row)
    return np.array(rows)


def test_scores_are_the_softmax_of_the_group_or_the_pair(workspace, tiny):
    images = [coarse_photo(*shape) for shape in SHAPES]
    expected = expected_scores(tiny, images)
    assert expected.std(axis=0).min() > 1e-3 and np.ptp(expected) > 0.2, "the toy must tell images apart"
    for row, annotations in zip(expected, said(workspace, clip(tiny), images), strict=True):
        assert [(a.text, a.category) for a in annotations] == [
            ("photo", "medium"),
            ("oil_painting", "medium"),
            ("sketch", "medium"),
            ("beard", "general"),
            ("hat", "general"),
            ("smile", "general"),
        ]
        assert {(a.kind, a.tagger) for a in annotations} == {("tag", "clip:tiny-clip")}
        assert np.abs(np.array([a.score for a in annotations]) - row).max() < 6e-5  # rounded to 4 decimals
        assert all(a.score == round(a.score, 4) for a in annotations)
        assert sum(a.score for a in annotations[:3]) == pytest.approx(1, abs=2e-4)


def test_the_floor_keeps_what_is_on_it(workspace, tiny):
    (everything,) = said(workspace, clip(tiny), [coarse_photo(50, 50)])
    floor = sorted(a.score for a in everything)[3]
    (some,) = said(workspace, clip(tiny, min_score=floor), [coarse_photo(50, 50)])
    assert list(some) == [a for a in everything if a.score >= floor] and len(some) < len(everything)


def test_several_templates_are_averaged_on_the_sphere(workspace, tiny):
    net = load_clip(find_clip(str(tiny), "", workspace), "cpu")
    templates = ("a photo of {}", "a drawing of {}, {}")
    bank = embed_labels(net, parse_labels("hat | cap", "x"), Clip(model=str(tiny), template=templates))
    for row, word in ((bank.positive[0], "hat"), (bank.opposite[0], "cap")):
        one, two = embed_texts(net, [f"a photo of {word}", f"a drawing of {word}, {word}"])
        mean = (one + two) / 2
        assert np.abs(row - mean / np.linalg.norm(mean)).max() < 1e-6
        assert np.linalg.norm(row) == pytest.approx(1, abs=1e-6)


@given(
    st.lists(st.lists(st.floats(-1, 1, width=32), min_size=4, max_size=4), min_size=1, max_size=4),
    st.sampled_from([1.0, 100.0, 1e4]),
)
def test_any_embedding_gives_probabilities(rows, scale):
    labels = parse_labels("[g]\na\nb\nc\n[]\nd\ne | f", "x")
    rng = np.random.default_rng(3)
    bank = taggers.clip.clip.LabelEmbeddings(labels, *rng.normal(size=(2, 5, 4)).astype(np.float32))
    table = label_scores(bank, np.array(rows, np.float32), scale)
    assert np.isfinite(table).all() and table.min() >= 0 and table.max() <= 1
    assert np.allclose(table[:, :3].sum(axis=1), 1)


# --- the cache -----------------------------------------------------------------------------------


def test_an_image_goes_through_the_model_once(workspace, tiny, calls):
    images = [coarse_photo(50, 50), coarse_photo(60, 40), coarse_photo(50, 50)]
    first = said(workspace, clip(tiny), images)
    assert calls == [2], "equal images are one"
    (workspace.root / "labels.txt").write_text("hat\nbeard | chin\n")
    again = said(workspace, clip(tiny, min_score=0.001), images)
    assert calls == [2], "other labels infer nothing"
    assert [[a.text for a in row] for row in again] == [["hat", "beard"]] * 3
    hats = [[a.score for a in row if a.text == "hat"] for row in (first[0], again[0])]
    assert hats[0] == hats[1]
    said(workspace, clip(tiny), [*images, coarse_photo(9, 9)])
    assert calls == [2, 1]


def test_the_label_embeddings_are_computed_once(workspace, tiny, monkeypatch):
    seen = []

    def counted(net, texts):
        seen.append(texts)
        return embed_texts(net, texts)

    monkeypatch.setattr(taggers.clip.clip, "embed_texts", counted)
    work = clip(tiny).start(workspace)
    for number in range(3):
        work([cropped(workspace, f"{number:03}", coarse_photo(40, 40, number))])
    assert len(seen) == 1 and len(set(seen[0])) == len(seen[0])


def test_another_model_has_another_store(workspace, tiny, folder, calls):
    said(workspace, clip(tiny), [coarse_photo(50, 50)])
    tensors = load_file(folder / "open_clip_model.safetensors")
    save_file(tensors | {"visual.proj": -tensors["visual.proj"]}, folder / "open_clip_model.safetensors")
    said(workspace, clip(folder), [coarse_photo(50, 50)])
    assert calls == [1, 1]


SPOIL = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not tensors"),
    "one bit": lambda path: path.write_bytes(
        path.read_bytes()[:-20] + bytes([path.read_bytes()[-20] ^ 1]) + path.read_bytes()[-19:]
    ),
    "foreign": lambda path: save_file({"other": np.ones(3)}, path),
    "another image's": lambda path: shutil.copy(
        next(p for p in path.parent.parent.rglob("*.safetensors") if p != path), path
    ),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("name", SPOIL)
def test_a_damaged_entry_is_made_again(workspace, tiny, calls, name):
    images = [coarse_photo(50, 50), coarse_photo(60, 40)]
    before = said(workspace, clip(tiny), images)
    store = VectorStore.of(workspace, find_clip(str(tiny), "", workspace).key)
    whole = store.get(pixel_hash(images[0]))
    SPOIL[name](store.path(pixel_hash(images[0])))
    assert store.get(pixel_hash(images[0])) is None
    assert said(workspace, clip(tiny), images) == before
    assert calls == [2, 1]
    # Alone, not beside the other: its sums may be rounded otherwise.
    np.testing.assert_allclose(store.get(pixel_hash(images[0])), whole, atol=1e-6)
    assert not list(workspace.cache.rglob("*.tmp"))


def test_the_store_is_found_by_the_images_own_hash(workspace, tiny):
    """What later questions ask with: Image.pixels of a manifest's row."""
    images = [coarse_photo(50, 50), coarse_photo(60, 40)]
    said(workspace, clip(tiny), images)
    source = find_clip(str(tiny), "", workspace)
    keys = ["0" * 64, *map(pixel_hash, images)]
    rows, known = VectorStore.of(workspace, source.key).gather(keys)
    assert known.tolist() == [1, 2]
    alone = np.concatenate([embed_images(load_clip(source, "cpu"), [p]) for p in images])
    np.testing.assert_allclose(rows, alone, atol=1e-6)
    assert VectorStore.of(workspace, source.key).gather(keys[:1])[1].tolist() == []


def test_half_as_many_images_go_on_when_memory_runs_out(workspace, tiny, monkeypatch, caplog):
    images = [coarse_photo(40, 40, number) for number in range(5)]
    expected = said(workspace, clip(tiny), images)
    shutil.rmtree(workspace.cache)
    sizes = []

    def tight(net, images):
        sizes.append(len(images))
        if len(images) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return embed_images(net, images)

    monkeypatch.setattr(taggers.clip.clip, "embed_images", tight)
    assert said(workspace, clip(tiny), images) == expected
    assert sizes == [5, 3, 2, 2, 1] and "now 2" in caplog.text


def test_numbers_that_are_none_are_said_and_never_kept(workspace, folder):
    tensors = load_file(folder / "open_clip_model.safetensors")
    tensors["visual.proj"][0, 0] = np.nan
    save_file(tensors, folder / "open_clip_model.safetensors")
    with pytest.raises(PrepError, match="not numbers"):
        said(workspace, clip(folder), [coarse_photo(50, 50)])
    assert not list(workspace.cache.rglob("*.safetensors"))


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_embed_asks_only_for_what_it_does_not_know(tmp_path):
    store = VectorStore(tmp_path)
    one, two = coarse_photo(3, 3, 1), coarse_photo(3, 3, 2)
    seen = []

    def infer(images):
        seen.append(len(images))
        return unit(np.stack([image.reshape(-1)[:4].astype(np.float32) + 1 for image in images]))

    first = embed_cached(store, infer, [one, one])
    both = embed_cached(store, infer, [two, one])
    assert seen == [1, 1] and np.array_equal(first[0], both[1]) and not np.array_equal(both[0], both[1])


# --- label files -----------------------------------------------------------------------------------


def test_a_label_file_is_read():
    labels = parse_labels(LABELS, "x")
    assert [(label.tag, label.group, label.prompt, label.opposite) for label in labels] == [
        ("photo", "medium", "a photograph", ""),
        ("oil_painting", "medium", "", ""),
        ("sketch", "medium", "", ""),
        ("beard", "", "", "clean shaven face"),
        ("hat", "", "", ""),
        ("smile", "", "a smiling face", "a sad face"),
    ]


def test_signs_in_labels_are_signs():
    labels = parse_labels("=_=\n|_|\n#compass\n#\n# a comment\na{}b\n>:)\n", "x")
    assert [label.tag for label in labels] == ["=_=", "|_|", "#compass", "a{}b", ">:)"]
    assert taggers.clip.clip.fill_templates("long_hair", ("{} {0}",)) == ("long hair {0}",)
    assert taggers.clip.clip.fill_templates("^_^", ("{}",)) == ("^_^",)


BAD_LABELS = {
    "": "lists no labels",
    "# only\n\n": "lists no labels",
    "a\nb\n A \n": "line 3: 'A' is listed twice",
    "long_hair\nlong hair": "is listed twice",
    "[g]\na\n[]\nb": r"\[g\] needs two labels",
    "[g]\na | b\nc": r"line 2: 'a \| b' has an opposite inside the group \[g\]",
    "[g]\na\nb\n[h]\nc\nd\n[g]\ne\nf": r"line 7: the group \[g\] begins twice",
    "a = | b": "is no label",
}


@pytest.mark.parametrize("text", BAD_LABELS)
def test_a_bad_label_file_is_one_sentence(text):
    with pytest.raises(PrepError, match=BAD_LABELS[text]):
        parse_labels(text, "labels.txt")


@given(st.text(alphabet=st.sampled_from("ab[]=| #\n_é\u2028\x00"), max_size=40))
def test_any_label_file_is_labels_or_a_sentence(text):
    try:
        labels = parse_labels(text, "x")
    except PrepError as error:
        assert error.hint
    else:
        assert labels and all(label.tag and label.tag.isprintable() for label in labels)


def test_the_built_in_labels_are_a_label_file_and_work(workspace, tiny):
    labels = parse_labels(BUILT_IN_LABELS, "x")
    (row,) = said(workspace, clip(tiny, labels=""), [coarse_photo(50, 50)])
    assert [a.text for a in row] == [label.tag for label in labels]


def test_label_files_that_cannot_be_read(workspace, tiny):
    (workspace.root / "latin.txt").write_bytes("béret\nhat".encode("latin-1"))
    (workspace.root / "bom.txt").write_bytes(b"\xef\xbb\xbfhat\r\nbeard\r\n")
    with pytest.raises(PrepError, match="not UTF-8"):
        clip(tiny, labels="latin.txt").start(workspace)
    with pytest.raises(PrepError, match="does not exist"):
        clip(tiny, labels="nowhere.txt").models(workspace)
    (row,) = said(workspace, clip(tiny, labels="bom.txt"), [coarse_photo(50, 50)])
    assert [a.text for a in row] == ["hat", "beard"]


def test_templates_need_a_place_for_the_label(tiny):
    with pytest.raises(PrepError, match="template is 'a photo'"):
        clip(tiny, template=("a photo",))
    with pytest.raises(PrepError, match="negative-template"):
        clip(tiny, negative_template=("a {}", "nothing"))


# --- provenance and bad models ---------------------------------------------------------------------


def test_files_and_labels_are_provenance(workspace, tiny, folder):
    models = {model.name: model.sha256 for model in clip(tiny).models(workspace)}
    files = ["tiny-clip/open_clip_config.json", "tiny-clip/open_clip_model.safetensors"]
    assert list(models) == [*files, "labels", "clip embeddings", "clip preprocess"]
    assert models["clip embeddings"] == find_clip(str(tiny), "", workspace).key, "where the vectors are found"
    (workspace.root / "labels.txt").write_text("other\n")
    changed = {model.name: model.sha256 for model in clip(tiny).models(workspace)}
    assert {name for name in models if models[name] != changed[name]} == {"labels"}
    assert clip("tiny-clip").models(workspace) == clip(folder).models(workspace), "a path from the workspace"


def test_an_architecture_and_a_weights_file(workspace, monkeypatch, tiny, tmp_path):
    """The long form; the tiny configuration stands among open_clip's own."""
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "ViT-tiny.json").write_text(json.dumps(CONFIG))
    monkeypatch.setattr(taggers.clip.clip_model, "_architectures", lambda: configs)
    weights = shutil.copy(tiny / "open_clip_model.safetensors", tmp_path / "mine.safetensors")
    tagger = clip("ViT-tiny", pretrained="mine.safetensors")
    assert tagger.signature == "clip:ViT-tiny" and tagger.models(workspace)[0].name == "ViT-tiny/mine.safetensors"
    net = load_clip(find_clip("ViT-tiny", str(weights), workspace), "cpu")
    model, _, _ = theirs(tiny)
    own = open_clip.image_transform(32, is_train=False)  # CLIP's own mean, deviation, shortest side and crop
    with torch.no_grad():
        expected = model.encode_image(own(Image.fromarray(coarse_photo(90, 60)))[None], normalize=True)[0].numpy()
    assert np.abs(embed_images(net, [coarse_photo(90, 60)])[0] - expected).max() < 1e-6
    with pytest.raises(PrepError, match="needs --pretrained"):
        clip("ViT-tiny").models(workspace)
    with pytest.raises(PrepError, match=r"weights .* do not exist"):
        clip("ViT-tiny", pretrained="gone.bin").models(workspace)
    with pytest.raises(PrepError, match="no architecture 'ViT-huge'"):
        clip("ViT-huge", pretrained="mine.safetensors").models(workspace)


def test_weights_of_an_architecture_are_prepared_as_published():
    siglip = taggers.clip.clip_model._published_preprocessing("ViT-B-16-SigLIP")
    assert (siglip["mean"], siglip["std"], siglip["resize_mode"]) == ((0.5,) * 3, (0.5,) * 3, "squash")
    clip_mean = taggers.clip.clip_model._published_preprocessing("ViT-L-14-quickgelu")["mean"]
    assert clip_mean == (0.48145466, 0.4578275, 0.40821073)
    with pytest.raises(PrepError, match="weights of ViT-L-14 prepare images differently"):
        taggers.clip.clip_model._published_preprocessing("ViT-L-14")


def test_a_pytorch_file_is_read_as_tensors_only(workspace, tiny, folder):
    state = open_clip.factory.load_state_dict(folder / "open_clip_model.safetensors")
    (folder / "open_clip_model.safetensors").unlink()
    torch.save(state, folder / "open_clip_pytorch_model.bin")
    assert (
        said(workspace, clip(folder), [coarse_photo(50, 50)])[0]
        == said(workspace, clip(tiny), [coarse_photo(50, 50)])[0]
    )


class Trap:
    def __reduce__(self):
        return (open, ("trapped", "w"))


def without_tensor(folder):
    path = folder / "open_clip_model.safetensors"
    save_file({k: v for k, v in load_file(path).items() if k != "visual.proj"}, path)


def config(change):
    def spoil(folder):
        path = folder / "open_clip_config.json"
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return spoil


def trap(folder):
    (folder / "open_clip_model.safetensors").unlink()
    torch.save({"state_dict": Trap()}, folder / "open_clip_pytorch_model.bin")


def raw_pickle(folder):
    (folder / "open_clip_model.safetensors").unlink()
    (folder / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps({"a": Trap()}))


BAD = {
    "no config": (lambda f: (f / "open_clip_config.json").unlink(), "lacks open_clip_config.json"),
    "no weights": (lambda f: (f / "open_clip_model.safetensors").unlink(), "has no weights"),
    "half": (lambda f: SPOIL["truncated"](f / "open_clip_model.safetensors"), "does not fit"),
    "empty": (lambda f: SPOIL["empty"](f / "open_clip_model.safetensors"), "does not fit"),
    "a tensor short": (without_tensor, "does not fit.*visual.proj"),
    "code": (trap, "never executes"),
    "a bare pickle": (raw_pickle, "never executes"),
    "config is no JSON": (lambda f: (f / "open_clip_config.json").write_text("{"), "is not JSON"),
    "config of another": (config(lambda c: {"architectures": ["CLIPModel"]}), "has no model_cfg"),
    "config is a list": (config(lambda c: [c]), "has no model_cfg"),
    "another size": (config(lambda c: {"model_cfg": CONFIG | {"embed_dim": 8}}), "does not fit.*size mismatch"),
    "unknown part": (config(lambda c: {"model_cfg": CONFIG | {"mystery": 1}}), "cannot build"),
    "a hub text tower": (
        config(lambda c: {"model_cfg": CONFIG | {"text_cfg": {"hf_model_name": "roberta-base"}}}),
        "text tower of transformers, roberta-base",
    ),
    "tokenizer missing": (
        config(lambda c: {"model_cfg": CONFIG | {"text_cfg": CONFIG["text_cfg"] | {"hf_tokenizer_name": "timm/x"}}}),
        "needs the files of its tokenizer",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_model_is_one_sentence_and_what_to_do(workspace, folder, name, capfd):
    spoil, words = BAD[name]
    spoil(folder)
    with pytest.raises(PrepError, match=words) as caught:
        said(workspace, clip(folder), [coarse_photo(50, 50)])
    assert "\n" not in caught.value.wrong and caught.value.hint
    assert capfd.readouterr().out == "" and not (workspace.root / "trapped").exists()


def test_no_model_is_named(workspace):
    with pytest.raises(PrepError, match="clip needs a model"):
        Clip().models(workspace)
