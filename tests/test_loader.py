"""Loading base models: single files in the original layout give the same model as folders; faults are said."""

from __future__ import annotations

import json
import pickle
import shlex
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from pipeline.errors import PrepError
from tests.original import single_file, vae_name, vae_value
from tests.training_set import SD1_PARTS, checkpoint, narrow, workspace
from training.models.base_model import find_base, with_vae
from training.models.detect_architecture import detect_architecture
from training.models.families import detect_family
from training.models.loader import open_base_model, read_tensors
from training.models.sd1 import SD1
from training.options.objective import ObjectiveOptions


@pytest.fixture(scope="module", params=["safetensors", "ckpt"])
def file(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("single") / f"model.{request.param}"
    if request.param == "ckpt":
        torch.save({"state_dict": single_file(), "global_step": 7}, path)
    else:
        save_file(single_file(), path)
    return path


def test_single_file_is_the_same_model_as_the_folder(file, tmp_path):
    work = workspace(tmp_path)
    one, other = checkpoint(work, str(file)), checkpoint(work, str(narrow()))
    assert detect_family(one).name == "sd_v1"
    for part in SD1_PARTS:
        ours, theirs = one.load(part).state_dict(), other.load(part).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs), part
    for part in ("unet", "text_encoder"):
        answers = [SD1().probe_output(part, model.load(part), model.tokenizers()) for model in (one, other)]
        assert torch.equal(*answers), part


@pytest.mark.parametrize("kind", ["sd2", "sdxl"])
def test_single_files_of_the_later_families(tmp_path, kind):
    """The same weights and answers as from the folder, OpenCLIP's layout included."""
    save_file(single_file(kind), tmp_path / "model.safetensors")
    work = workspace(tmp_path / "w")
    one, other = checkpoint(work, str(tmp_path / "model.safetensors")), checkpoint(work, str(narrow(kind)))
    family = detect_family(one)
    assert family.name == detect_family(other).name
    for part in ("unet", "vae", *family.encoders):
        ours, theirs = one.load(part).state_dict(), other.load(part).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs), part
    for part in ("unet", *family.encoders):
        answers = [family.probe_output(part, model.load(part), model.tokenizers()) for model in (one, other)]
        assert torch.equal(*answers), part


def predicted(folder, tensors, metadata=None, **options):
    """What prep takes a single file's model to predict."""
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata)
    model = checkpoint(workspace(folder / "w"), str(folder / "model.safetensors"))
    objective = detect_family(model).objective(model, ObjectiveOptions(**options))
    return objective.prediction, float(objective.alphas[-1]) == 0


def test_single_files_say_what_they_predict(tmp_path):
    """By tensors named v_pred and ztsnr, by metadata, by settings beside the file, or else by the family."""
    mark = {"v_pred": torch.zeros(0)}
    xl, two = single_file("sdxl"), single_file("sd2")
    assert predicted(tmp_path / "1", xl) == ("epsilon", False)
    assert predicted(tmp_path / "2", xl | mark) == ("v_prediction", False)
    assert predicted(tmp_path / "3", xl | mark | {"ztsnr": torch.zeros(0)}) == ("v_prediction", True)
    assert predicted(tmp_path / "4", two, {"modelspec.prediction_type": "v"}) == ("v_prediction", False)
    assert predicted(tmp_path / "5", two, {"modelspec.prediction_type": "epsilon"}) == ("epsilon", False)
    (tmp_path / "6").mkdir()
    (tmp_path / "6" / "model.yaml").write_text('model:\n  params:\n    parameterization: "v"\n')
    assert predicted(tmp_path / "6", two) == ("v_prediction", False)
    assert predicted(tmp_path / "7", two, prediction_type="epsilon") == ("epsilon", False)
    with pytest.raises(PrepError) as caught:
        predicted(tmp_path / "8", two)
    assert caught.value.wrong == "The base model's file does not say whether it predicts the noise or v."
    assert "--prediction-type v_prediction" in caught.value.hint


def other_vae(folder, kind="sd1", scale=1.5):
    """The folder of a VAE with other weights, of a family's shape."""
    copy = shutil.copytree(narrow(kind) / "vae", folder / f"vae-{kind}")
    tensors = {name: value * scale for name, value in load_file(copy / SD1_PARTS["vae"]).items()}
    save_file(tensors, copy / SD1_PARTS["vae"], {"format": "pt"})
    return copy, tensors


def test_another_vae_from_folder_or_file(tmp_path):
    folder, tensors = other_vae(tmp_path)
    save_file(tensors, tmp_path / "new.safetensors")
    old = {vae_name(name): vae_value(name, value).contiguous() for name, value in tensors.items()}
    save_file(old, tmp_path / "old.safetensors")
    save_file({f"first_stage_model.{name}": value for name, value in old.items()}, tmp_path / "oldest.safetensors")
    work = workspace(tmp_path / "w")
    plain = find_base(str(narrow()), work)
    hashes = set()
    for vae in (folder, *(tmp_path / f"{name}.safetensors" for name in ("new", "old", "oldest"))):
        base = with_vae(plain, str(vae), work)
        model = open_base_model(base, work.cache)
        assert detect_family(model).name == "sd_v1"
        found = model.load("vae").state_dict()
        assert all(torch.equal(found[name], value) for name, value in tensors.items()), vae
        hashes.add(base.vae)
        assert base.sha256 == plain.sha256
    assert len(hashes | {plain.vae}) == 5  # latents of different files never meet in the cache
    assert with_vae(plain, "", work) == plain


@pytest.mark.parametrize(
    ("vae", "said"),
    [
        ("nothing", "There is no VAE 'nothing'"),
        ("empty", "is not the folder of a VAE: it has no config.json"),
        ("sd35", "The VAE makes latents of 16 channels; narrow takes 4"),
        ("sdxl", "its latents are scaled by 0.13025, those of narrow by 0.18215"),
        ("small.safetensors", "small.safetensors is not a VAE of the base model's shape"),
    ],
)
def test_vaes_that_do_not_fit(tmp_path, vae, said):
    work = workspace(tmp_path / "w")
    (tmp_path / "empty").mkdir()
    save_file({"encoder.down_blocks.0.resnets.0.conv1.weight": torch.zeros(2)}, tmp_path / "small.safetensors")
    place = str(other_vae(tmp_path, vae)[0]) if vae.startswith("sd") else str(tmp_path / vae)
    with pytest.raises(PrepError, match=said):
        model = open_base_model(
            with_vae(find_base(str(narrow()), work), place if vae != "nothing" else vae, work), work.cache
        )
        detect_family(model)
        model.load("vae")


def test_architecture_of_the_real_sizes():
    # Shapes published with Stable Diffusion 1.5; only those that are read.
    widths = [1280] * 6 + [640] * 3 + [320] * 3
    shapes = {
        "model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
        "first_stage_model.encoder.conv_in.weight": (128, 3, 3, 3),
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": (49408, 768),
    }
    for k, width in enumerate(widths):
        shapes[f"model.diffusion_model.output_blocks.{k}.0.out_layers.3.weight"] = (width, width, 3, 3)
    for k, width in enumerate([128, 256, 512, 512]):
        for block in range(2):
            shapes[f"first_stage_model.encoder.down.{k}.block.{block}.conv1.weight"] = (width, width, 3, 3)
    for k in range(12):
        shapes[f"cond_stage_model.transformer.text_model.encoder.layers.{k}.self_attn.q_proj.weight"] = (768, 768)
    architecture = detect_architecture(shapes, "v1-5.safetensors")
    assert architecture.unet == (320, 640, 1280, 1280)
    assert (architecture.unet_layers, architecture.unet_heads) == (2, 8)
    assert architecture.vae == (128, 256, 512, 512)
    assert (architecture.vae_layers, architecture.vae_scale) == (2, 0.18215)
    assert [(text.width, text.layers) for text in architecture.texts] == [(768, 12)]
    configs = architecture.configs()
    assert (configs["unet/config.json"]["norm_num_groups"], configs["vae/config.json"]["norm_num_groups"]) == (32, 32)
    assert (configs["text_encoder/config.json"]["num_attention_heads"]) == 12


def test_a_single_file_with_another_vocabulary_names_the_folder_beside_it(tmp_path):
    """As DreamBooth on a base with a tokenizer of its own leaves them: the file has no room for the tokenizer."""
    work = workspace(tmp_path / "w")
    tables = {
        "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(32, 4, 3, 3),
        "first_stage_model.encoder.conv_in.weight": torch.zeros(8, 3, 3, 3),
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": torch.zeros(847, 64),
    }
    file = tmp_path / "my run" / "db.safetensors"
    file.parent.mkdir()
    save_file(tables, file)
    with pytest.raises(PrepError, match=r"has 847 tokens, not CLIP's 49,408") as caught:
        checkpoint(work, str(file))
    assert "Give the diffusers folder" in caught.value.hint
    shutil.copytree(narrow(), file.with_suffix(""))
    with pytest.raises(PrepError) as caught:
        checkpoint(work, str(file))
    assert shlex.split(caught.value.hint)[-2:] == ["--base", str(file.with_suffix(""))]


FOREIGN = {
    "conditioner.embedders.0.transformer.text_model.embeddings.position_ids": "complete Stable Diffusion XL .*U-Net",
    "conditioner.embedders.0.model.ln_final.weight": "Stable Diffusion XL refiner",
    "cond_stage_model.model.transformer.resblocks.0.ln_1.weight": "complete Stable Diffusion 2.x .* no U-Net",
    "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": "Stable Diffusion 3",
    "double_blocks.0.img_attn.qkv.weight": "Flux",
    "lora_unet_mid_block_attentions_0_proj_in.alpha": "LoRA",
    "something.else": "not a complete Stable Diffusion 1.x checkpoint: it has no U-Net",
}


@pytest.mark.parametrize(("name", "said"), FOREIGN.items())
def test_other_models_are_refused_by_name(tmp_path, name, said):
    save_file({name: torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(PrepError, match=said):
        checkpoint(workspace(tmp_path / "w"), str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("model.diffusion_model.middle_block.1.proj_in.weight", "lacks weights of its unet"),
        ("first_stage_model.quant_conv.weight", "lacks weights of its vae"),
        (
            "cond_stage_model.transformer.text_model.final_layer_norm.bias",
            "lacks a weight of its text_encoder: .*final_layer_norm.bias",
        ),
    ],
)
def test_a_lost_weight_is_noticed(tmp_path, lost, said):
    tensors = single_file()
    del tensors[lost]
    save_file(tensors, tmp_path / "model.safetensors")
    model = checkpoint(workspace(tmp_path / "w"), str(tmp_path / "model.safetensors"))
    with pytest.raises(PrepError, match=said):
        for part in SD1_PARTS:
            model.load(part)


def test_a_weight_lost_from_a_folder_is_named(tmp_path):
    copy = shutil.copytree(narrow(), tmp_path / "copy")
    for part, lost in (("unet", "conv_out.bias"), ("text_encoder", "text_model.final_layer_norm.bias")):
        tensors = load_file(copy / part / SD1_PARTS[part])
        del tensors[lost]
        save_file(tensors, copy / part / SD1_PARTS[part], {"format": "pt"})
        with pytest.raises(PrepError, match=rf"{part} lacks the weight .*{lost.split('.')[-2]}"):
            checkpoint(workspace(tmp_path / part), str(copy)).load(part)


def test_truncated_weights_of_a_folder(tmp_path):
    copy = shutil.copytree(narrow(), tmp_path / "copy")
    for part, name in SD1_PARTS.items():
        whole = (copy / part / name).read_bytes()
        (copy / part / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(PrepError, match="cannot be loaded"):
            checkpoint(workspace(tmp_path / part), str(copy)).load(part)


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize("name", ["model.ckpt", "model.safetensors"])
def test_code_in_a_model_file_is_never_run(tmp_path, capsys, name):
    (tmp_path / name).write_bytes(pickle.dumps({"state_dict": Evil()}))
    with pytest.raises(PrepError, match=r"other than tensors|is damaged|not a checkpoint"):
        read_tensors(tmp_path / name)
    torch.save({"state_dict": {"x": Evil()}}, tmp_path / name)
    with pytest.raises(PrepError, match=r"other than tensors|is damaged|not a checkpoint"):
        read_tensors(tmp_path / name)
    assert capsys.readouterr().out == ""


@settings(max_examples=60)
@given(st.binary(max_size=200), st.sampled_from(["safetensors", "ckpt"]))
def test_no_bytes_break_the_reader(tmp_path_factory, content, kind):
    path = tmp_path_factory.getbasetemp() / f"fuzzed.{kind}"
    path.write_bytes(content)
    try:
        read_tensors(path)
    except PrepError as error:
        assert "\n" not in error.wrong


def test_truncated_checkpoint(tmp_path):
    torch.save({"state_dict": {"x": torch.zeros(1000)}}, tmp_path / "model.ckpt")
    whole = (tmp_path / "model.ckpt").read_bytes()
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "model.ckpt").write_bytes(whole[:size])
        with pytest.raises(PrepError):
            read_tensors(tmp_path / "model.ckpt")


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("unet", {"addition_embed_type": "text_time"}, "Stable Diffusion XL model without its text_encoder_2"),
        ("unet", {"use_linear_projection": True, "cross_attention_dim": 1024}, "do not belong together"),
        ("vae", {"latent_channels": 16}, "The VAE makes latents of 16 channels; copy takes 4"),
        ("unet", {"in_channels": 9}, "inpainting"),
        ("unet", {"cross_attention_dim": 768}, "do not belong together"),
        (
            "unet",
            {"_class_name": "SomethingElse"},
            "of no model family that prep trains: its denoiser is a SomethingElse",
        ),
    ],
)
def test_folders_of_other_families_are_refused(tmp_path, part, change, said):
    copy = shutil.copytree(narrow(), tmp_path / "copy")
    config = copy / part / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(PrepError, match=said):
        detect_family(checkpoint(workspace(tmp_path / "w"), str(copy)))


def test_configuration_that_is_not_json(tmp_path):
    copy = shutil.copytree(narrow(), tmp_path / "copy")
    (copy / "unet" / "config.json").write_text("{")
    with pytest.raises(PrepError, match=r"config\.json is not JSON"):
        detect_family(checkpoint(workspace(tmp_path / "w"), str(copy)))
