"""A run with all that looks on, on the mini base: its folder, run.json and notes."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import PrepError
from pipeline.manifest import write_manifest
from tests.training_options import train_stage
from tests.training_set import held_out, manifest, narrow, placed, workspace
from training.evaluation.step_timer import StepTimer
from training.models.loader import BaseModel
from training.run import run_training
from training.run_key import run_key

QUICK = {
    "steps": 4,
    "batch_size": 2,
    "rank": 2,
    "learning_rate": 1e-3,
    "validation_timesteps": 2,
    "validate_every_steps": 2,
}


def nothing(done, total):
    """Report to nobody."""


def data(folder):
    """A workspace with two training images, a regularization image and three that are held out."""
    work = workspace(folder)
    records = [placed(work, 0), placed(work, 1), placed(work, 4, role="reg")]
    return work, manifest(work, [*records, *(held_out(work, k) for k in (10, 11, 12))])


def run(work, made, **options):
    stage = train_stage(**QUICK | options)
    list(stage.run(made, work, nothing))
    return stage


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    work, made = data(tmp_path_factory.mktemp("done"))
    return work, made, run(work, made)


def test_held_images_are_measured_and_never_trained_on(done):
    work, made, stage = done
    folder = stage.config.file(work).parent
    seen = pq.read_table(folder / "samples_log.parquet")
    val = {record.id for record in made.records() if record.role == "val"}
    assert not val & set(seen["id"].to_pylist())
    assert all(0 <= time < 1000 for time in seen["timestep"].to_pylist())
    rows = pq.read_table(folder / "validation.parquet").to_pylist()
    assert {row["id"] for row in rows if row["subset"] == "validation"} == val
    assert sorted({row["step"] for row in rows}) == [0, 2, 4]
    assert {"loss_curves.png", "outliers.parquet"} <= {path.name for path in folder.iterdir()}


def test_verdicts_reach_run_json_and_the_notes(done):
    work, made, stage = done
    found = json.loads(stage.config.file(work).with_name("run.json").read_text())["validation"]
    assert [one["step"] for one in found] == [0, 2, 4]
    assert {one["verdict"] for one in found[1:]} <= {"underfit", "good", "overfit"}
    rows = pq.read_table(stage.config.file(work).with_name("validation.parquet")).to_pylist()
    losses = {(row["step"], row["subset"], row["id"], row["timestep"]): row["loss"] for row in rows}
    for one in found:
        for name in ("train", "validation", "reg"):
            shares = [
                loss / losses[0, *at] for (step, *at), loss in losses.items() if (step, at[0]) == (one["step"], name)
            ]
            assert one[name] == pytest.approx(sum(shares) / len(shares))
    trained = write_manifest(work.manifest("train"), [list(made.records())], made.history)
    notes = stage.notes(trained)
    said = [note[9:].partition(";")[0] for note in notes if ": " in note]
    assert [line for line in said if line.startswith("step ")] == [
        f"step {o['step']}: {o['verdict']}" for o in found[1:]
    ]


def test_the_best_becomes_the_file_when_asked(tmp_path, monkeypatch):
    """Asking for it later trains nothing anew; the file is that of a run that ended there."""
    monkeypatch.setattr(
        "training.evaluation.validation.best_checkpoint", lambda found: next((e for e in found if e.step == 2), None)
    )
    work, made = data(tmp_path)
    how = {"save_every_steps": 4, "save_total_limit": 1, "save_every_epochs": 0, "save_precision": "fp32"}
    stage = run(work, made, **how, keep_weights="last")
    seen = (stage.config.file(work).parent / "samples_log.parquet").read_bytes()
    last = load_file(stage.config.file(work))
    best = run(work, made, **how, keep_weights="best")
    found = load_file(best.config.file(work))
    assert run_key(best.config, made, work) == run_key(stage.config, made, work)
    assert (stage.config.file(work).parent / "samples_log.parquet").read_bytes() == seen
    assert json.loads(best.config.file(work).with_name("run.json").read_text())["metadata"]["ss_steps"] == "2"
    short = load_file(run(work, made, **how | {"steps": 2, "output": "short"}).config.file(work))
    assert all(torch.equal(found[name], short[name]) for name in short) and found.keys() == short.keys()
    assert not all(torch.equal(found[name], last[name]) for name in last)


def test_what_is_left_out_by_chance_is_the_same_after_a_stop(tmp_path):
    how = {"network_dropout": 0.4, "save_every_steps": 2, "save_total_limit": 9, "export_checkpoints": "off"}
    (work, made), (other, again) = data(tmp_path / "whole"), data(tmp_path / "halved")
    whole = load_file(run(work, made, **how).config.file(work))
    run_training(train_stage(**QUICK | how).config, again, other, nothing, StepTimer(stop_at=3))
    assert not train_stage(**QUICK | how).config.file(other).exists()
    halved = load_file(run(other, again, **how).config.file(other))
    assert all(torch.equal(whole[name], halved[name]) for name in whole) and whole.keys() == halved.keys()
    without = load_file(run(other, again, **how | {"network_dropout": 0.0, "output": "without"}).config.file(other))
    assert not all(torch.equal(whole[name], without[name]) for name in whole)


def test_a_leak_ends_the_run_before_it_begins(tmp_path):
    work = workspace(tmp_path)
    one = placed(work, 1)
    twin = replace(held_out(work, 10), image=one.image)
    with pytest.raises(PrepError, match="1 of 1 validation images are also trained on"):
        run(work, manifest(work, [one, twin]))
    assert not work.runs.exists()


def test_course_does_not_depend_on_how_it_is_watched(done):
    work, made, stage = done
    key = run_key(stage.config, made, work)
    for options in ({"patience": 3}, {"keep_weights": "best"}, {"validate_every_steps": 9}, {"sample_every_steps": 3}):
        assert run_key(train_stage(**QUICK | options).config, made, work) == key
    for options in ({"validation_timesteps": 3}, {"validation_share": 0.1}, {"validation_images": 2}):
        assert run_key(train_stage(**QUICK | options).config, made, work) != key


def test_tensorboard_that_is_not_installed(tmp_path, monkeypatch):
    work, made = data(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PrepError, match="needs the package tensorboard, which is not installed"):
        run(work, made, tensorboard=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"base": "none"}, "There is no base model none"),
        ({"vae": "none"}, "There is no VAE 'none'"),
        (
            {"min_snr_gamma": 5.0, "base": "sd35"},
            "min_snr_gamma has no effect: the base model is trained by flow matching",
        ),
        (
            {"timestep_sampling": "mode"},
            "timestep_sampling has no effect: the base model is not trained by flow matching",
        ),
        ({"clip_skip": 2, "base": "sd2"}, "--clip-skip 2 has no effect: Stable Diffusion 2.x always uses"),
        ({"clip_skip": 3}, "--clip-skip 3 is too large: the base model's text encoder has 2 layers"),
        ({"text_encoder_2_lr": 1e-4}, "Stable Diffusion 1.x has no second text encoder"),
        ({"sample_prompts": "none.txt"}, "The prompt file .*none.txt cannot be read"),
        ({"sample_prompts": "wrong.txt"}, "wrong.txt, line 2 has --x, which prep does not know"),
        ({"sample_prompts": "named.txt"}, "named.txt names <lora:none>, but samples of training"),
        ({"sample_prompts": "odd.txt"}, "65 x 512 pixels cannot be made"),
        ({"sample_prompts": "good.txt", "sample_clip": "./none"}, "There is no model folder"),
        ({"patience": 1}, "patience 1 needs validation images, and there are none"),
        ({"keep_weights": "best"}, "keep_weights best needs validation images, and there are none"),
        ({"block_ranks": "down.9=4"}, "down.9"),
        ({"optimizer": "prodigy", "learning_rate": 1.0, "loraplus_lr_ratio": 4.0}, "prodigy finds one learning rate"),
        ({"batch_size": 0}, "--batch-size 0 measures which batch size is fastest"),
        ({"attention": "xformers"}, "xformers"),
    ],
    ids=str,
)
def test_what_is_wrong_is_found_before_anything_loads(tmp_path, monkeypatch, options, said):
    """Also what no option says alone: what the base cannot do, files that are not there, prompts that are amiss."""
    work = workspace(tmp_path)
    (work.root / "wrong.txt").write_text("smith\nsmith --x 3\n")
    (work.root / "odd.txt").write_text("smith --w 65 --h 512\n")
    (work.root / "named.txt").write_text("smith <lora:none>\n")
    (work.root / "good.txt").write_text("smith\n")
    made = manifest(work, [placed(work, 1), placed(work, 2)])
    loads = []
    monkeypatch.setattr(BaseModel, "load", lambda self, part, *given: loads.append(part))
    kinds = {kind: str(narrow(kind)) for kind in ("sd2", "sd35")}
    with pytest.raises(PrepError, match=said):
        run(work, made, **options | {"base": kinds.get(options.get("base"), options.get("base", "mini"))})
    assert loads == [] and not work.runs.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"masks": "none"}, "The folder of masks .*none does not exist"),
        ({"init_from": "none.safetensors"}, "there is no file none.safetensors"),
    ],
    ids=str,
)
def test_files_that_are_not_there_are_found_when_the_run_gets_its_key(tmp_path, options, said):
    """Which is before the run itself: their content is part of it."""
    with pytest.raises(PrepError, match=said):
        train_stage(**options).inputs(workspace(tmp_path))


def test_a_package_that_is_missing_is_found_before_anything_loads(tmp_path, monkeypatch):
    work, made = data(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PrepError, match="needs the package lion-pytorch"):
        run(work, made, optimizer="lion")
    assert not (work.cache / "latents").exists()
