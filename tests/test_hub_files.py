"""Which files of a pipeline are pulled; the rest of the choice is tested with the pull, in test_models.py."""

from __future__ import annotations

import pytest

from pipeline.models.catalog import known
from pipeline.models.hub_files import choose_files

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
def test_a_safety_checker_is_left_where_it_is(hub):
    """1.2 GB that prep never loads, and the folder that says how it reads images: of known models and of others."""
    assert set(choose_files(hub, (*PARTS, *UNUSED), known(hub), ())) == set(PARTS)


def test_what_is_asked_for_by_name_is_pulled():
    asked = choose_files("a/b", (*PARTS, *UNUSED), None, ("safety_checker/*.safetensors",))
    assert list(asked) == ["safety_checker/model.safetensors"]


def test_another_models_top_folder_is_not_a_part():
    """Only a pipeline has parts: a tagger's model beside such a folder is taken as ever."""
    names = ("config.json", "model.safetensors", "safety_checker/model.safetensors")
    assert set(choose_files("a/b", names, None, ())) == {"config.json", "model.safetensors"}
