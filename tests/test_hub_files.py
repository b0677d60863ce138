"""Which files of a repository are downloaded, and which names are refused."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.errors import PrepError
from pipeline.models.catalog import catalog_entry
from pipeline.models.hub_files import choose_files
from pipeline.models.pull import pull
from pipeline.models.pull_record import RECORD
from tests.hub import VIT, request

PARTS = (
    "model_index.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
)
UNUSED = (
    "feature_extractor/preprocessor_config.json",
    "safety_checker/config.json",
    "safety_checker/model.safetensors",
    "safety_checker/pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "v1-5-pruned.safetensors",
)


@pytest.mark.parametrize("hub", ["somebody/a-fine-tune", "stable-diffusion-v1-5/stable-diffusion-v1-5"])
def test_a_safety_checker_is_not_downloaded(hub):
    """1.2 GB that prep never loads, and the folder with its image processor: of catalog models and of others."""
    assert set(choose_files(hub, (*PARTS, *UNUSED), catalog_entry(hub), ())) == set(PARTS)


def test_files_requested_by_name_are_downloaded():
    asked = choose_files("a/b", (*PARTS, *UNUSED), None, ("safety_checker/*.safetensors",))
    assert list(asked) == ["safety_checker/model.safetensors"]


def test_another_models_top_folder_is_not_a_part():
    """Only a diffusers pipeline has parts: a tagger's model next to such a folder is downloaded as usual."""
    names = ("config.json", "model.safetensors", "safety_checker/model.safetensors")
    assert set(choose_files("a/b", names, None, ())) == {"config.json", "model.safetensors"}


def test_of_a_base_model_only_the_parts_that_training_needs_are_downloaded():
    """Parts in full precision and their texts: no half copies, no safety checker, no single-file twins."""
    base = catalog_entry("sd15")
    texts = ("model_index.json", "unet/config.json", "tokenizer/merges.txt", "tokenizer/vocab.json")
    others = ("v1-5-pruned.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors")
    others += ("safety_checker/model.safetensors", "unet/diffusion_pytorch_model.bin", "v1-5-pruned.ckpt")
    chosen = choose_files(base.repo_id, (*texts, *base.files[1:], *others), base, ())
    assert set(chosen) == {*texts, *base.files}
    with pytest.raises(PrepError, match=r"has no unet/diffusion_pytorch_model\.safetensors"):
        choose_files(base.repo_id, (*texts, *base.files[:-1]), base, ())
    large = catalog_entry("sd35-medium")
    shards = tuple(f"text_encoder_3/model-0000{n}-of-00002.safetensors" for n in (1, 2))
    index = "text_encoder_3/model.safetensors.index.json"
    plain = tuple(name for name in large.files if "*" not in name)
    assert set(choose_files(large.repo_id, (*plain, *shards, index), large, ())) == {*plain, *shards, index}


def names(*files, entry=None, patterns=()):
    return choose_files("a/b", files, entry, tuple(patterns))


def test_hidden_files_are_never_downloaded():
    """huggingface_hub keeps its own records in .cache, and trusts them."""
    hidden = (".cache/huggingface/download/model.safetensors.json", "unet/.x.json", ".index.json")
    assert set(names("model.safetensors", "model_index.json", "unet/m.safetensors", *hidden)) == {
        "model_index.json",
        "unet/m.safetensors",
    }
    assert set(names("a.json", *hidden, patterns=["*.json"])) == {"a.json"}


def test_which_files_of_a_repository_are_downloaded():
    assert names(
        "README.md", "a.txt", "flax_model.msgpack", "model.safetensors", "pytorch_model.bin", "x.pkl", "onnx/model.onnx"
    ) == {
        "a.txt": "a.txt",
        "model.safetensors": "model.safetensors",
    }
    assert list(names("model.fp16.safetensors", "model.safetensors", "z.json")) == ["z.json", "model.safetensors"]
    assert list(names("model.onnx", "model.onnx_data")) == ["model.onnx", "model.onnx_data"]
    assert set(
        names(
            "model_index.json", "v1-5.safetensors", "unet/config.json", "unet/d.safetensors", "unet/d.fp16.safetensors"
        )
    ) == {
        "model_index.json",
        "unet/config.json",
        "unet/d.safetensors",
    }
    assert list(names("a.safetensors", "b.safetensors", "c.json", patterns=["b.*"])) == ["b.safetensors"]
    cl = catalog_entry("cl-tagger")
    files = ("cl_tagger_1_02/model.onnx", "cl_tagger_1_02/tag_mapping.json", "cl_tagger_1_01/model.onnx", "x.json")
    assert choose_files(cl.repo_id, files, cl, ()) == {files[1]: "tag_mapping.json", files[0]: "model.onnx"}
    blip2 = catalog_entry("blip2-opt-2.7b")
    shards = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    texts = ("config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors.index.json")
    assert set(choose_files(blip2.repo_id, (*texts, *shards, "pytorch_model-00001-of-00002.bin"), blip2, ())) == {
        *texts,
        *shards,
    }
    base = catalog_entry("blip-base")
    assert list(choose_files(base.repo_id, (*texts[:3], "pytorch_model.bin"), base, ()))[-1] == "pytorch_model.bin"


@pytest.mark.parametrize(
    ("files", "entry", "patterns"),
    [
        (("config.json", "model.pkl", "model.bin", "model.ckpt"), None, ()),
        (("model.safetensors", "model.pkl"), None, ("*.pkl",)),
        (("config.json", "model.safetensors"), catalog_entry(VIT), ()),
        ((), None, ()),
    ],
)
def test_a_repository_without_the_weights_is_refused(files, entry, patterns):
    with pytest.raises(PrepError, match=r"has no .* that prep would load"):
        choose_files("a/b", files, entry, patterns)


STRANGE = [
    "./a.json",
    "a//b.json",
    "../a.json",
    "a/../../b.json",
    "/etc/a.json",
    "..\\a.json",
    "C:a.json",
    "~/a.json",
    "a\0.json",
    "a\n.json",
    "",
]


@pytest.mark.parametrize("name", STRANGE)
def test_a_name_that_leads_out_of_the_folder_is_refused(hub, models_home, name):
    hub.add("a/evil", {"model.safetensors": b"1", name: b"{}"})
    with pytest.raises(PrepError, match="may lie outside its folder"):
        pull(request(hub, "a/evil"))
    assert [path.name for path in models_home.rglob("*")] in ([], [".a--evil.lock"])


parts = st.one_of(
    st.sampled_from(["..", ".", "", "a", "C:", "~", "\\", "unet", "model.safetensors", RECORD]), st.text(max_size=6)
)


paths = st.lists(parts, max_size=4).map("/".join)


@given(st.lists(st.tuples(paths, st.sampled_from([".json", ".safetensors", ".bin", ""])).map("".join), max_size=6))
@example(["./prep-model.json", "model.safetensors"])
@settings(deadline=None)
def test_whatever_a_hub_lists_stays_in_the_folder(listed):
    try:
        chosen = choose_files("a/b", tuple(listed), None, ())
    except PrepError as error:
        assert "\n" not in error.wrong
        return
    for inside in chosen.values():
        for kind in (PurePosixPath, PureWindowsPath):
            path = kind(inside)
            assert not path.is_absolute() and not path.drive and ".." not in path.parts
        assert PurePosixPath(inside) != PurePosixPath(RECORD) and inside.endswith((".json", ".safetensors", ".bin"))
