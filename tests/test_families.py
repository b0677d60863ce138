"""Every family from end to end: its text is its pipeline's, and what is trained loads there with equal output."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from pipeline.errors import PrepError
from tests.training_options import train_stage
from tests.training_set import checkpoint, manifest, narrow, placed, workspace
from training.models.families import FAMILIES, detect_family
from training.models.family import TextSettings
from training.models.parts import published_name, quiet
from training.options.objective import ObjectiveOptions

ROOT = Path(__file__).resolve().parent.parent
KINDS = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0", "sd35": "sd35"}
FAMILY = {kind: next(family for family in FAMILIES if family.name == name) for kind, name in KINDS.items()}
CAPTIONS = ["a photo of smith, man", "", "hat"]


def opened(folder, base):
    return checkpoint(workspace(folder / "w"), str(base))


def pipeline(kind):
    quiet()
    found = getattr(diffusers, FAMILY[kind].pipeline).from_pretrained(narrow(kind), local_files_only=True)
    found.set_progress_bar_config(disable=True)
    return found


def render(pipe):
    stream = torch.Generator().manual_seed(1)
    options = {"num_inference_steps": 2, "width": 64, "height": 64, "output_type": "np", "generator": stream}
    return torch.from_numpy(pipe("a photo of smith, man", **options).images[0])


@pytest.mark.parametrize("kind", KINDS)
def test_folder_is_recognised(tmp_path, kind):
    assert detect_family(opened(tmp_path, narrow(kind))).name == KINDS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_text_is_the_pipelines(tmp_path, kind):
    model, pipe = opened(tmp_path, narrow(kind)), pipeline(kind)
    encoders = {part: model.load(part) for part in model.encoders()}
    with torch.no_grad():
        ours = FAMILY[kind].encode_text(model.tokenizers(), encoders, CAPTIONS, TextSettings())
        more = [None, None] if kind == "sd35" else []
        theirs = (
            pipe.encode_prompt(CAPTIONS, "cpu", 1, False)
            if kind in ("sd1", "sd2")
            else pipe.encode_prompt(CAPTIONS, *more, do_classifier_free_guidance=False)
        )
    assert torch.equal(ours["text"], theirs[0])
    if "pooled" in ours:
        assert torch.equal(ours["pooled"], theirs[2])


@pytest.mark.parametrize(
    ("kind", "rates"), [*((kind, {"text_encoder_lr": 2e-2}) for kind in KINDS), ("sdxl", {})], ids=str
)
def test_what_is_trained_loads_in_diffusers_with_equal_output(tmp_path, kind, rates):
    """The file's matrices, put into a second pipeline's weights by the published formula, give the same image."""
    work = workspace(tmp_path)
    data = manifest(work, [placed(work, k) for k in range(2)])
    stage = train_stage(
        base=str(narrow(kind)), steps=2, learning_rate=2e-2, rank=4, alpha=2.0, save_precision="fp32", **rates
    )
    list(stage.run(data, work, lambda done, total: None))
    file = stage.config.file(work)

    loaded, merged = pipeline(kind), pipeline(kind)
    plain = render(loaded)
    loaded.load_lora_weights(file.parent, weight_name=file.name)
    used = merge(merged, FAMILY[kind], load_file(file))
    assert used == {name.split(".lora_")[0].removesuffix(".alpha") for name in load_file(file)}
    torch.testing.assert_close(render(loaded), render(merged), atol=1e-4, rtol=1e-3)
    assert float((render(loaded) - plain).abs().max()) > 1e-3
    assert {FAMILY[kind].denoiser} | ({"text_encoder"} if rates else set()) <= parts_of(FAMILY[kind], used)


def parts_of(family, names):
    return {part for part, prefix in family.prefixes.items() if any(name.startswith(prefix) for name in names)}


def merge(pipe, family, tensors):
    """W + alpha / rank * up @ down for every module of the file; the names of those that were found."""
    used = set()
    down, up = ("lora_down", "lora_up") if family.kohya else ("lora_A", "lora_B")
    for part in family.targets:
        for path, module in getattr(pipe, part).named_modules():
            key = family.key(part, published_name(part, path))
            if f"{key}.{down}.weight" not in tensors:
                continue
            used.add(key)
            first, second = tensors[f"{key}.{down}.weight"].flatten(1), tensors[f"{key}.{up}.weight"].flatten(1)
            scale = float(tensors[f"{key}.alpha"]) / len(first) if family.kohya else 1.0
            module.weight.data += (scale * second @ first).view(module.weight.shape)
    return used


def edited(folder, kind, part, change):
    """A copy of a narrow model with another configuration of a part; None takes the part out."""
    copy = shutil.copytree(narrow(kind), folder / "copy")
    if change is None:
        shutil.rmtree(copy / part)
    else:
        config = copy / part / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | change))
    return copy


@pytest.mark.parametrize(
    ("kind", "part", "change", "said"),
    [
        ("sd1", "vae", None, "copy is not a diffusers folder of a complete model: it has no vae/config.json."),
        ("sd35", "text_encoder_2", None, "copy is a Stable Diffusion 3.5 model without its text_encoder_2."),
        ("sdxl", "text_encoder_2", None, "copy is a Stable Diffusion XL model without its text_encoder_2."),
        ("sd1", "unet", {"in_channels": 9}, "copy takes 9 channels: an inpainting model."),
        ("sd1", "text_encoder", {"hidden_size": 128}, "U-Net and text encoder of copy do not belong together."),
        ("sd1", "vae", {"latent_channels": 16}, "The VAE makes latents of 16 channels; copy takes 4."),
        ("sd35", "transformer", {"in_channels": 9}, "copy takes 9 channels: not the plain model."),
        ("sdxl", "unet", {"in_channels": 9}, "copy takes 9 channels: an inpainting model."),
        ("sd2", "unet", {"in_channels": 5}, "copy takes 5 channels: not the plain model."),
        ("sd2", "text_encoder", {"hidden_size": 128}, "U-Net and text encoder of copy do not belong together."),
        ("sdxl", "text_encoder_2", {"projection_dim": 64}, "U-Net and text encoder of copy do not belong together."),
        ("sd35", "vae", {"latent_channels": 4}, "The VAE makes latents of 4 channels; copy takes 16."),
        (
            "sd35",
            "transformer",
            {"_class_name": "FluxTransformer2DModel"},
            "copy is of no model family that prep trains: its denoiser is a FluxTransformer2DModel.",
        ),
    ],
)
def test_models_that_cannot_be_trained_are_told_in_one_sentence(tmp_path, kind, part, change, said):
    with pytest.raises(PrepError) as caught:
        detect_family(opened(tmp_path, edited(tmp_path, kind, part, change)))
    assert caught.value.wrong.replace(f"{tmp_path}/", "") == said


def test_a_refiner_is_told_from_the_base(tmp_path):
    folder = edited(tmp_path, "sdxl", "text_encoder", None)
    with pytest.raises(PrepError, match=r"no text_encoder/config\.json"):
        detect_family(opened(tmp_path, folder))


@pytest.mark.parametrize("kind", ["sd2", "sdxl", "sd35"])
def test_clip_skip_is_for_the_first_family_only(kind):
    FAMILY["sd1"].check_text(TextSettings(clip_skip=2))
    FAMILY[kind].check_text(TextSettings(tokens=225))
    with pytest.raises(PrepError) as caught:
        FAMILY[kind].check_text(TextSettings(clip_skip=2))
    assert caught.value.wrong == (
        f"train: --clip-skip 2 has no effect: {FAMILY[kind].title} always uses the same layer."
    )


@pytest.mark.parametrize("kind", KINDS)
def test_objective_is_the_bases_own(tmp_path, kind):
    objective = FAMILY[kind].objective(opened(tmp_path, narrow(kind)), ObjectiveOptions())
    assert objective.prediction == ("flow" if kind == "sd35" else "epsilon")
    if kind == "sd35":
        assert objective.shift == 3.0


@pytest.mark.parametrize("kind", KINDS)
def test_latents_are_normalised_as_the_pipelines_decode_them(tmp_path, kind):
    model = opened(tmp_path, narrow(kind))
    config = pipeline(kind).vae.config
    mean, std = FAMILY[kind].normalizer(model)((torch.tensor([1.5]), torch.tensor([0.5])))
    shift = config.shift_factor or 0.0
    assert float(mean) == pytest.approx((1.5 - shift) * config.scaling_factor)
    assert float(std) == pytest.approx(0.5 * config.scaling_factor)


def test_a_vae_that_does_not_say_its_scale_is_the_first_familys(tmp_path):
    """As those of before diffusers 0.5: 0.18215, the scale of Stable Diffusion 1.x."""
    copy = shutil.copytree(narrow("sd1"), tmp_path / "copy")
    config = copy / "vae" / "config.json"
    config.write_text(json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k != "scaling_factor"}))
    mean, std = FAMILY["sd1"].normalizer(opened(tmp_path, copy))((torch.tensor([1.0]), torch.tensor([2.0])))
    assert (float(mean), float(std)) == (pytest.approx(0.18215), pytest.approx(0.3643))


def test_in_bfloat16_the_text_encoder_still_is_proven_as_it_was_held(tmp_path):
    """Only the denoiser is rounded; a proof that rounds both finds the file off by more than it allows."""
    work = workspace(tmp_path)
    rates = {"learning_rate": 2e-2, "text_encoder_lr": 2e-2}
    stage = train_stage(base=str(narrow()), steps=2, rank=4, precision="bf16", **rates)
    list(stage.run(manifest(work, [placed(work, 1)]), work, lambda done, total: None))
    assert stage.config.file(work).is_file()


def readme_family():
    """The class of the worked example in training/models/README.md."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "training/models/README.md").read_text("utf-8"), re.DOTALL)
    namespace = {}
    exec(compile(code, "README.md", "exec"), namespace)
    return namespace["RectifiedSD1"]()


def test_a_new_family_needs_one_class_and_one_table_entry(tmp_path, monkeypatch):
    """The README's family trains through the ordinary path: detection, loading, two steps, verification, metadata."""
    copy = shutil.copytree(narrow("sd1"), tmp_path / "rectified")
    scheduler = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
    (copy / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    model = opened(tmp_path, copy)
    assert detect_family(model) is FAMILY["sd1"]

    family = readme_family()
    monkeypatch.setattr("training.models.families.FAMILIES", (family, *FAMILIES))
    assert detect_family(model) is family
    assert detect_family(opened(tmp_path / "plain", narrow("sd1"))) is FAMILY["sd1"]
    assert family.objective(model, ObjectiveOptions()).prediction == "flow"

    work = workspace(tmp_path / "run")
    stage = train_stage(base=str(copy), steps=2, learning_rate=2e-2, rank=2, flow_shift=2.0)
    list(stage.run(manifest(work, [placed(work, k) for k in range(2)]), work, lambda done, total: None))
    with safe_open(stage.config.file(work), "pt") as file:
        metadata = file.metadata()
    assert (metadata["ss_base_model_version"], metadata["ss_steps"]) == ("sd_v1_rectified", "2")


def test_no_other_package_asks_which_family_a_model_is_of():
    names = "|".join(re.escape(name) for name in KINDS.values() if name != "sd35")
    for package in ("pipeline", "stages", "taggers", "training"):
        for path in (ROOT / package).rglob("*.py"):
            if "training/models" not in path.as_posix():
                found = re.search(rf"family\.name (?:==|!=|in|not)|['\"](?:{names})['\"]", path.read_text("utf-8"))
                assert not found, f"{path}: {found[0]}"
