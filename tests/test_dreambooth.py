"""DreamBooth: all weights of the parts with a rate learn, and folder and file load back as they were trained."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pipeline.errors import PrepError
from tests.method_set import losses, materials, trainee
from tests.training_options import train_stage
from tests.training_set import PARTS, checkpoint, manifest, narrow, placed, workspace
from training.export.artifacts import write_artifact
from training.export.tensor_file import data_sha256
from training.models.family import TextSettings

RATE = 1e-3


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return workspace(tmp_path_factory.mktemp("w"))


def begin(work, kind="sd1", **options):
    found = materials(work, kind, **{"method": "dreambooth", "learning_rate": RATE} | options)
    return found, trainee(found)


def saved(made, folder, dtype=torch.float16):
    files = {}
    for end, product in made.finalize(dtype).items():
        files[end] = folder / f"out{end}"
        write_artifact(files[end], product, {"prep": "1"})
    return files


def states(found):
    return {
        f"{part}.{name}": value.clone()
        for part, module in found.modules.items()
        for name, value in module.state_dict().items()
    }


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({}, {"unet"}),
        ({"text_encoder_lr": RATE}, {"unet", "text_encoder"}),
        ({"learning_rate": 0.0, "text_encoder_lr": RATE}, {"text_encoder"}),
    ],
)
def test_all_weights_of_the_parts_with_a_rate_learn(work, options, parts):
    found, made = begin(work, **options)
    assert found.modules.keys() == parts
    before = states(found)
    errors = losses(found, made, 8)
    assert errors[-1] < 0.9 * errors[0]
    learned = {name for group in made.param_groups() for name in group.weights}
    assert learned == {
        f"{part}.{name}" for part, module in found.modules.items() for name, _ in module.named_parameters()
    }
    assert {name for name, value in states(found).items() if not torch.equal(value, before[name])} == learned


def test_each_part_learns_at_its_rate(work):
    """Adam's first step moves each weight by the rate, wherever there is a gradient to speak of."""
    found, made = begin(work, learning_rate=1e-3, text_encoder_lr=1e-4, weight_decay=0.0)
    before = states(found)
    losses(found, made, 1)
    after = states(found)
    for part, rate in (("unet", 1e-3), ("text_encoder", 1e-4)):
        moved = max(float((after[name] - before[name]).abs().max()) for name in after if name.startswith(f"{part}."))
        assert moved == pytest.approx(rate, rel=0.01)


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl", "sd35"])
def test_folder_and_file_are_proven(work, tmp_path, kind):
    found, made = begin(work, kind, text_encoder_lr=RATE)
    losses(found, made, 1)
    files = saved(made, tmp_path)
    assert files.keys() == ({""} if kind == "sd35" else {"", ".safetensors"})
    made.verify(files)
    parts = [part for part in PARTS if found.checkpoint.config(part)]
    for part in parts:
        with safe_open(files[""] / part / PARTS[part], "pt") as opened:
            assert {opened.get_slice(name).get_dtype() for name in opened.keys()} <= {"F16", "I64"}  # noqa: SIM118
            assert opened.metadata() == {"prep": "1", "format": "pt"}


def test_a_pipeline_of_diffusers_paints_what_was_trained(work, tmp_path):
    from diffusers import StableDiffusionPipeline

    found, made = begin(work, text_encoder_lr=RATE)
    losses(found, made, 3)
    files = saved(made, tmp_path, torch.float32)
    folder = StableDiffusionPipeline.from_pretrained(files[""], local_files_only=True)
    single = StableDiffusionPipeline.from_single_file(
        str(files[".safetensors"]), config=str(files[""]), local_files_only=True
    )
    plain = StableDiffusionPipeline.from_pretrained(narrow(), local_files_only=True)

    def render(pipeline):
        pipeline.set_progress_bar_config(disable=True)
        size = {"width": 64, "height": 64, "num_inference_steps": 1, "output_type": "np"}
        return torch.from_numpy(pipeline("smith", generator=torch.Generator().manual_seed(1), **size).images)

    images = {name: render(pipeline) for name, pipeline in (("folder", folder), ("single", single), ("base", plain))}
    torch.testing.assert_close(images["folder"], images["single"], atol=1e-4, rtol=0)
    assert float((images["folder"] - images["base"]).abs().max()) > 1e-2
    for part in found.modules:
        ours = getattr(folder, part).state_dict()
        assert all(torch.equal(value, ours[name]) for name, value in found.modules[part].state_dict().items())
    kept, base = folder.vae.state_dict(), plain.vae.state_dict()
    assert all(torch.equal(value, base[name]) for name, value in kept.items())
    condition = found.family.encode_text(found.tokenizers, {"text_encoder": folder.text_encoder}, ["a"], TextSettings())
    assert bool(condition["text"].isfinite().all())


def test_the_folder_is_a_base_to_train_on(work, tmp_path):
    """The index names only what is there, the schedule says what was trained, and prep recognises it."""
    from training.models.families import detect_family

    base = tmp_path / "base"  # which has a part that nobody publishes
    shutil.copytree(narrow(), base)
    checker = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    (base / "model_index.json").write_text(json.dumps(json.loads((base / "model_index.json").read_text()) | checker))
    found, made = begin(work, str(base), prediction_type="v_prediction", zero_terminal_snr="on")
    losses(found, made, 1)
    folder = saved(made, tmp_path)[""]
    index = json.loads((folder / "model_index.json").read_text())
    named = {name for name, value in index.items() if isinstance(value, list) and value[0]}
    assert named == {path.name for path in folder.iterdir() if path.is_dir()}
    schedule = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    assert (schedule["prediction_type"], schedule["rescale_betas_zero_snr"]) == ("v_prediction", True)
    assert detect_family(checkpoint(work, str(folder))).name == found.family.name


@pytest.mark.parametrize("fault", ["folder", "file"])
def test_the_proof_finds_a_wrong_weight(work, tmp_path, fault):
    found, made = begin(work)
    losses(found, made, 1)
    files = saved(made, tmp_path)
    path = files[""] / "unet" / PARTS["unet"] if fault == "folder" else files[".safetensors"]
    tensors = load_file(path)
    name = next(
        name
        for name in tensors
        if name.endswith(("mid_block.resnets.0.conv1.weight", "middle_block.0.in_layers.2.weight"))
    )
    save_file(tensors | {name: tensors[name] * 1.5}, path, {"format": "pt"})
    with pytest.raises(PrepError, match="does not reproduce the trained unet"):
        made.verify(files)


def test_a_model_that_learned_nothing_is_refused(work, tmp_path):
    _, made = begin(work)
    with pytest.raises(PrepError, match="Training did not change the unet"):
        made.verify(saved(made, tmp_path))


def test_bfloat16_is_computed_with_but_not_learned_in(work):
    """Under autocast: the weights keep float32 and steps that bfloat16 could not hold."""
    found = materials(work, "sd1", method="dreambooth", learning_rate=1e-6, precision="bf16")
    exact = found.checkpoint.load("unet").state_dict()
    made = trainee(found)
    seen = []
    found.modules["unet"].conv_in.register_forward_hook(lambda module, given, answer: seen.append(answer.dtype))
    losses(found, made, 2)
    assert seen == [torch.bfloat16, torch.bfloat16]
    moved = {
        name: float((value - exact[name]).abs().max()) for name, value in found.modules["unet"].state_dict().items()
    }
    assert {value.dtype for value in found.modules["unet"].state_dict().values()} == {torch.float32}
    assert 1e-6 < max(moved.values()) < 3e-6
    made.finalize(torch.float32)
    assert "forward" not in vars(found.modules["unet"])


def test_high_rates_are_told_of(work, caplog):
    """By what is usual for the base: 2e-6 at Stable Diffusion's width, more in narrower ones."""
    with caplog.at_level(logging.WARNING):
        found, _ = begin(work, learning_rate=2e-6)
        usual = 2e-6 * 1280 / max(found.checkpoint.config("unet")["block_out_channels"])
        begin(work, learning_rate=4 * usual)
    assert not caplog.text
    with caplog.at_level(logging.WARNING):
        begin(work, learning_rate=6 * usual)
    assert (
        f"A learning rate of {6 * usual:g} is high for dreambooth with this base model; usual: {usual:g}."
        in caplog.text
    )


def test_a_whole_run(tmp_path):
    """With prior preservation, from manifest to folder and file; a second run takes their place."""
    work = workspace(tmp_path)
    made = manifest(work, [placed(work, 0), placed(work, 1), placed(work, 2, role="reg")])
    options = {"method": "dreambooth", "steps": 3, "batch_size": 2, "learning_rate": 1e-4, "save_every_epochs": 0}
    options |= {"text_encoder_lr": 1e-5, "output": "smith.v1"}
    stage = train_stage(**options)
    list(stage.run(made, work, lambda done, total: None))
    file, folder = stage.config.file(work), stage.config.file(work).with_name("smith.v1")
    with safe_open(file, "pt") as opened:
        said = opened.metadata()
    assert said["modelspec.architecture"] == "stable-diffusion-v1"
    assert said["modelspec.trigger_phrase"] == "smith"
    assert said["sshs_model_hash"] == data_sha256(load_file(file))
    assert stage.missing_outputs(made, work) == ""
    before = file.read_bytes()
    (folder / "left over").touch()
    list(train_stage(**options | {"prior_loss_weight": 0.0}).run(made, work, lambda done, total: None))
    assert file.read_bytes() != before  # the class images had their part in it
    assert not (folder / "left over").exists()
    assert not list(folder.parent.glob("*unverified*")) and not list(folder.parent.glob(".*former"))
