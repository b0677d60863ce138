"""The models that prep knows by name: which files of its repository a download of each takes, and how it is used."""

import re

import pytest

from pipeline.models.catalog import CATALOG, COMMITS, catalog_entry, short_name
from pipeline.models.hub_files import TEXTS, choose_files
from pipeline.models.store import model_folder, resolve_repo_id
from pipeline.record import Annotation
from pipeline.registry import TAGGERS
from stages.merging.thresholds import DEFAULT_THRESHOLDS, MODEL_THRESHOLDS, default_thresholds

TOKENS = ("special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")
TEXT = (".gitattributes", "README.md", "config.json", "generation_config.json", "preprocessor_config.json", *TOKENS)
SHARDS = tuple(f"model-0000{n}-of-00002.safetensors" for n in (1, 2))
INDEX = "model.safetensors.index.json"
# Unwanted files of such repositories: the same weights for other libraries, and pickles of them.
TWINS = ("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "model.fp16.safetensors")
PICKLED = ("pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json")
WD = (".gitattributes", "README.md", "config.json", "model.msgpack", "model.onnx", "model.safetensors")
WD_OLD = ("saved_model.pb", "keras_metadata.pb", "variables/variables.index", "variables/variables.data-00000-of-00001")
CL = tuple(f"cl_tagger_1_0{n}/{name}" for n in (0, 1, 2) for name in ("model.onnx", "tag_mapping.json", "model.pt"))
CLIP = ("open_clip_config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors")

# By tagger: the files of such a repository, and the weights that a download takes.
REPOSITORIES = {
    "wd14": ((*WD, *WD_OLD, "selected_tags.csv", "sw_jax_cv_config.json"), {"model.onnx"}),
    "blip": ((*TEXT, *TWINS, "model.safetensors", "vocab.txt"), {"model.safetensors"}),
    "git": ((*TEXT, *TWINS, "model.safetensors", "vocab.txt"), {"model.safetensors"}),
    "clip": ((*TEXT, *TWINS, *CLIP), {"open_clip_model.safetensors"}),
    "vlm": ((*TEXT, *PICKLED, *SHARDS, INDEX, "chat_template.json", "chat_template.jinja"), set(SHARDS)),
}
OTHERS = {
    "cl-tagger": ((".gitattributes", "README.md", *CL), {"model.onnx"}),
    "blip2-opt-2.7b": REPOSITORIES["vlm"],
    "blip2-flan-t5-xl": REPOSITORIES["vlm"],
    "florence-2-base": REPOSITORIES["blip"],
    "florence-2-large": REPOSITORIES["blip"],
}
OF_TAGGERS = [entry.name for entry in CATALOG if entry.used_by in REPOSITORIES]


@pytest.mark.parametrize("name", OF_TAGGERS)
def test_a_download_takes_one_set_of_weights_and_the_texts(name):
    """Never a pickle next to safetensors, or the weights of another library."""
    entry = catalog_entry(name)
    there, weights = OTHERS.get(name) or REPOSITORIES[entry.used_by]
    pulled = choose_files(entry.repo_id, there, entry, ())
    assert {place for place in pulled.values() if not place.endswith(TEXTS)} == weights
    texts = {file.removeprefix(f"{entry.subfolder}/") for file in there if file.startswith(entry.subfolder)}
    assert {place for place in pulled.values() if place.endswith(TEXTS)} == {t for t in texts if t.endswith(TEXTS)}


def test_commits_are_of_catalog_models():
    assert COMMITS.keys() <= {entry.name for entry in CATALOG}
    assert all(re.fullmatch("[0-9a-f]{40}", commit) for commit in COMMITS.values())
    assert len(set(COMMITS.values())) == len(COMMITS)
    assert catalog_entry("wd-vit-tagger-v3").revision == COMMITS["wd-vit-tagger-v3"]
    assert (catalog_entry("git-large").revision, catalog_entry("deepdanbooru").revision) == ("main", "v1")


def test_every_tagger_of_danbooru_tags_is_pinned_and_has_thresholds_of_its_own():
    """Figures of the models' own pages: the threshold at which precision equals recall."""
    of_danbooru = [entry for entry in CATALOG if entry.used_by == "wd14"]
    assert len(of_danbooru) == 11
    assert {entry.name for entry in of_danbooru} <= COMMITS.keys()
    assert {short_name(entry.name) for entry in of_danbooru} | {"deepdanbooru", "clip"} == MODEL_THRESHOLDS.keys()
    pages = {"vit": 0.2614, "swinv2": 0.2653, "convnext": 0.2682, "vit-large": 0.2606, "eva02-large": 0.5296}
    assert {name: default_thresholds(f"wd14:wd-{name}-tagger-v3")[0] for name in pages} == pages
    pages = {"vit": 0.3537, "convnext": 0.3685, "convnextv2": 0.3710, "swinv2": 0.3771, "moat": 0.3771}
    assert {name: default_thresholds(f"wd14-two:wd-v1-4-{name}-tagger-v2")[0] for name in pages} == pages
    assert default_thresholds("wd14:my-own") == default_thresholds("blip:any") == DEFAULT_THRESHOLDS
    assert default_thresholds(Annotation("hat", "tag", "general", 0.5, "deepdanbooru:TorchDeepDanbooru").tagger) == (
        0.5,
        0.5,
    )


def test_the_catalog_has_no_duplicates():
    assert len({e.name for e in CATALOG}) == len({e.repo_id for e in CATALOG}) == len(CATALOG)
    for entry in CATALOG:
        assert entry.size > 1e8 and entry.files
        assert entry.used_by in (*TAGGERS, "train") and not (entry.sha256 and not entry.url)
        assert catalog_entry(entry.name) is catalog_entry(entry.repo_id) is entry
        assert resolve_repo_id(entry.name) == resolve_repo_id(entry.repo_id) == entry.repo_id
        assert "/" not in entry.name


@pytest.mark.parametrize("model", ["wd-vit-tagger-v3", "cl-tagger", "qwen3-vl-4b", "deepdanbooru"])
def test_a_model_has_one_short_name_however_it_is_named(models_home, model):
    names = {
        short_name(which)
        for which in (model, catalog_entry(model).repo_id, str(model_folder(catalog_entry(model).repo_id)))
    }
    assert names == {catalog_entry(model).repo_id.rpartition("/")[2]}
    assert short_name("/data/my--tagger") == "tagger" and short_name("mine/") == "mine"
