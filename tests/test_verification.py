"""The proof of adapter files: it passes sound ones of every family and form, and finds every fault."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import PrepError
from tests.adapter_set import made, taught, write
from tests.training_set import checkpoint, narrow, workspace
from training.export.tensor_file import write_tensors
from training.methods.verification import readable_by_diffusers, verify_adapter
from training.models.families import detect_family
from training.models.sd1 import SD1

FAMILY = SD1()
PARTS = ("unet", "text_encoder")
# Of each part of the small base, a module.
MODULES = {
    "unet": "lora_unet_up_blocks_3_attentions_1_proj_in",
    "text_encoder": "lora_te_text_model_encoder_layers_1_mlp_fc1",
}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return workspace(tmp_path_factory.mktemp("w"))


@pytest.fixture(scope="module")
def model(work):
    return checkpoint(work, str(narrow()))


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """A sound file of two forms, and the trained parts' answers."""
    found = {}
    for kind in ("lora", "lokr"):
        adapters = taught(model, method=kind, rank=2)
        path = tmp_path_factory.mktemp(kind) / "x.safetensors"
        write(adapters, path)
        found[kind] = (path, adapters.reference_outputs)
    return found


OF_UNETS = (
    {"method": "lora", "alpha": 5.0},
    {"method": "locon", "conv_rank": 3, "conv_alpha": 7.0},
    {"method": "loha"},
    {"method": "lokr", "conv_rank": 2},
    {"method": "dora", "conv_rank": 2},
    {"method": "dora", "conv_rank": 2, "lora_key_format": "diffusers"},
    {"method": "lora", "block_ranks": "mid=2, up.1=0", "lora_key_format": "diffusers"},
)
OF_TRANSFORMERS = (
    {"method": "lora", "alpha": 5.0},
    {"method": "loha"},
    {"method": "lokr", "factor": 4},
    {"method": "dora"},
    {"method": "lora", "block_ranks": "transformer.1=2"},
)
CASES = [(kind, options) for kind in ("sd1", "sd2", "sdxl") for options in OF_UNETS]
CASES += [("sd35", options) for options in OF_TRANSFORMERS]


@pytest.mark.parametrize(("kind", "options"), CASES, ids=lambda case: str(case).replace("'", ""))
def test_every_form_on_every_family(work, tmp_path, kind, options):
    base = checkpoint(work, str(narrow(kind)))
    adapters = taught(base, rank=4, **options)
    tensors = write(adapters, tmp_path / "x.safetensors", torch.float16)
    family, lycoris = detect_family(base), options["method"] in ("loha", "lokr")
    plain = options.get("lora_key_format") == "diffusers" or (kind == "sd35" and not lycoris)
    adapters.verify({".safetensors": tmp_path / "x.safetensors"})
    for part in adapters.reference_outputs:  # diffusers' own loader was asked where it can be
        assert readable_by_diffusers(tensors, family, part) == (plain or options["method"] in ("lora", "locon"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_diffusers_pipeline_loads_the_file_with_equal_output(model, tmp_path, dtype):
    from diffusers import StableDiffusionPipeline

    adapters = taught(model, rank=4, alpha=2.0, size=0.1, block_ranks="mid=2")
    write(adapters, tmp_path / "x.safetensors", dtype)
    pipeline = StableDiffusionPipeline.from_pretrained(model.folder, local_files_only=True)
    tokenizers = {"text_encoder": pipeline.tokenizer}
    plain = {part: FAMILY.probe_output(part, getattr(pipeline, part), tokenizers) for part in PARTS}
    pipeline.load_lora_weights(tmp_path, weight_name="x.safetensors")
    for part in PARTS:
        loaded = FAMILY.probe_output(part, getattr(pipeline, part), tokenizers)
        torch.testing.assert_close(loaded, adapters.reference_outputs[part], atol=1e-5, rtol=1e-5)
        assert float((loaded - plain[part]).abs().max()) > 0.01


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("fault", ["a module is missing", "alpha is wrong", "a weight is wrong"])
@pytest.mark.parametrize("kind", ["lora", "lokr"])
def test_a_faulty_file_is_found(model, files, tmp_path, kind, fault, part):
    source, answers = files[kind]
    tensors = {name: value.clone() for name, value in load_file(source).items()}
    own = [name for name in tensors if name.startswith(f"{MODULES[part]}.")]
    if fault == "a module is missing":
        for name in own:
            del tensors[name]
    elif fault == "alpha is wrong":
        tensors[f"{MODULES[part]}.alpha"] *= 2
    else:
        tensors[next(name for name in own if not name.endswith("alpha"))] *= -1
    path = tmp_path / "x.safetensors"
    write_tensors(path, tensors, {})
    with pytest.raises(PrepError, match=f"does not reproduce the trained {part}"):
        verify_adapter(path, FAMILY, model, {part: answers[part]} | answers, torch.float32)


def test_a_key_without_effect_is_found(model, files, tmp_path):
    source, answers = files["lora"]
    for more, said in (
        ({"lora_unet_nowhere.alpha": torch.tensor(1.0)}, "no layer for .*lora_unet_nowhere.alpha"),
        ({"lora_unet_conv_in.alpha": torch.tensor(1.0)}, "alpha do not make a weight"),
    ):
        write_tensors(tmp_path / "x.safetensors", load_file(source) | more, {})
        with pytest.raises((PrepError, ValueError), match=said):
            verify_adapter(tmp_path / "x.safetensors", FAMILY, model, answers, torch.float32)


def test_an_adapter_whose_change_is_lost_is_found(model, files, tmp_path):
    """Though the part as a whole answers otherwise."""
    source, answers = files["lora"]
    tensors = {name: value.clone() for name, value in load_file(source).items()}
    tensors[f"{MODULES['unet']}.alpha"] *= 0
    write_tensors(tmp_path / "x.safetensors", tensors, {})
    with pytest.raises(PrepError, match=r"does not change up_blocks\.3\.attentions\.1\.proj_in, although"):
        verify_adapter(tmp_path / "x.safetensors", FAMILY, model, answers, torch.float32)


def test_an_adapter_without_effect_is_refused(model, tmp_path):
    adapters = made(model, parts=("unet",), rank=4)
    write(adapters, tmp_path / "x.safetensors")
    with pytest.raises(PrepError, match="does not change the unet"):
        adapters.verify({".safetensors": tmp_path / "x.safetensors"})
