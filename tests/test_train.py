"""prep train from manifest to file: what it writes, that it is deterministic, and what bad input gets."""

from __future__ import annotations

import dataclasses
import json
import os

import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from pipeline.engines import local
from pipeline.errors import PrepError
from pipeline.execution import RunSettings
from pipeline.record import Drop
from pipeline.registry import StagePlan
from pipeline.run import update_stage
from tests.training_options import train_options, train_stage
from tests.training_set import checkpoint, manifest, placed, workspace
from training.batch import RunConfig
from training.distributed import DistributedContext
from training.models.sd1 import SD1
from training.optim.train_state import make_train_state
from training.run import split_dataset
from training.setup import build_job
from training.trainer import train

QUICK = {"steps": 6, "batch_size": 2, "rank": 4, "learning_rate": 1e-3}


def nothing(done, total):
    """Report to nobody."""


def data(folder):
    """A workspace and its build manifest: two sizes, a regularization image, one dropped, one not placed."""
    work = workspace(folder)
    records = [placed(work, k) for k in range(3)]
    records += [placed(work, 3, size=(64, 128)), placed(work, 4, role="reg")]
    records += [placed(work, 5, drop=Drop("build", "a duplicate")), placed(work, 6, dataset_path="")]
    return work, manifest(work, records)


def run(work, made, **options):
    """Train, and what came of it: the file and the records."""
    stage = train_stage(**QUICK | options)
    records = [record for batch in stage.run(made, work, nothing) for record in batch]
    return stage.config.file(work), records


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    work, made = data(tmp_path_factory.mktemp("trained"))
    file, records = run(work, made, output="smith-v1", text_encoder_lr=1e-3)
    return work, made, file, records


def test_records_pass_unchanged(trained):
    _, made, _, records = trained
    assert records == list(made.records())
    assert len(records) == 7


def test_folder_of_the_run(trained):
    work, _, file, _ = trained
    assert file == work.runs / "smith-v1" / "smith-v1.safetensors"
    names = {path.name for path in file.parent.iterdir()}
    found = {"metrics.parquet", "samples_log.parquet", "outliers.parquet", "loss_curves.png"}
    assert names == {"smith-v1.safetensors", "run.json", "settings.json", "dataset.parquet", "checkpoints"} | found
    assert train_stage(output="smith-v1").missing_outputs(trained[1], work) == ""
    assert train_stage(output="other").missing_outputs(trained[1], work) == "the result in runs/other is"


def test_metrics_answer_what_it_trained_on(trained):
    _, made, file, _ = trained
    table = pq.read_table(file.with_name("metrics.parquet"))
    assert table.column_names == [
        *("step", "epoch", "loss", "prior_loss", "learning_rate", "norm", "width", "height", "ids")
    ]
    rows = table.to_pylist()
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    usable = {record.id for record in made.records() if record.kept and record.dataset_path}
    assert {id for row in rows for id in row["ids"]} <= usable
    assert all(row["learning_rate"] == 1e-3 for row in rows)
    assert all(0 < loss < 10 for row in rows for loss in (row["loss"], row["prior_loss"]) if loss is not None)


def test_seen_names_every_image_with_its_prompt(trained):
    _, made, file, _ = trained
    rows = pq.read_table(file.with_name("samples_log.parquet")).to_pylist()
    steps = pq.read_table(file.with_name("metrics.parquet")).to_pylist()
    assert [(step["step"], step["epoch"], id) for step in steps for id in step["ids"]] == [
        (row["step"], row["epoch"], row["id"]) for row in rows
    ]
    records = {record.id: record for record in made.records()}
    for row in rows:
        record = records[row["id"]]
        assert (row["prompt"], row["reg"]) == (record.caption, record.role == "reg")
        assert (row["width"], row["height"]) == (record.image.width, record.image.height)
        assert row["weight"] == 1.0
    for step in steps:
        losses = [row["loss"] for row in rows if row["step"] == step["step"] and not row["reg"]]
        assert step["loss"] == (pytest.approx(sum(losses) / len(losses)) if losses else None)


def test_file_says_where_it_comes_from(trained):
    work, made, file, _ = trained
    with safe_open(file, "pt") as opened:
        said = opened.metadata()
    assert said["prep_dataset"] == made.digest
    assert said["ss_new_sd_model_hash"] == checkpoint(work).base.sha256
    assert said["modelspec.trigger_phrase"] == "smith"
    assert json.loads(file.with_name("run.json").read_text())["metadata"] == said
    assert not any(str(work.root) in value for value in said.values())


def test_pipeline_shows_the_trained_adapter(trained):
    from diffusers import StableDiffusionPipeline

    work, _, file, _ = trained
    model = checkpoint(work)
    pipeline = StableDiffusionPipeline.from_pretrained(model.folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)

    def render():
        seeded = torch.Generator().manual_seed(1)
        options = {"num_inference_steps": 2, "width": 64, "height": 64, "output_type": "np", "generator": seeded}
        return torch.from_numpy(pipeline("smith, image 1", **options).images[0])

    plain = render()
    pipeline.load_lora_weights(file.parent, weight_name=file.name)
    assert float((render() - plain).abs().max()) > 1e-3
    for part in ("unet", "text_encoder"):
        adapters = [n for n, _ in getattr(pipeline, part).named_parameters() if "lora_B" in n]
        assert len(adapters) == len([k for k in load_file(file) if k.startswith(SD1.prefixes[part]) and "lora_up" in k])


def test_same_seed_same_bytes(tmp_path):
    files = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        work, made = data(tmp_path / name)
        file, _ = run(work, made, seed=seed, text_encoder_lr=1e-3)
        files.append([file.read_bytes(), file.with_name("metrics.parquet").read_bytes()])
    assert files[0] == files[1]
    assert files[0][0] != files[2][0]


def test_latents_from_the_cache_give_the_same_bytes(tmp_path):
    work, made = data(tmp_path)
    first, _ = run(work, made)
    before = first.read_bytes()
    first.unlink()
    assert run(work, made)[0].read_bytes() == before


@pytest.mark.parametrize(
    "options",
    [
        {"learning_rate": 2e-3},
        {"text_encoder_lr": 1e-3},
        {"rank": 8},
        {"alpha": 1.0},
        {"lr_scheduler": "cosine"},
        {"lr_scheduler": "constant_with_warmup", "lr_warmup": 0.5},
        {"seed": 1},
        {"steps": 5},
        {"batch_size": 1},
        {"min_snr_gamma": 1.0},
        {"gradient_accumulation_steps": 2},
        {"optimizer": "adafactor"},
        {"max_grad_norm": 1e-4},
        {"ema_decay": 0.5},
        {"noise_offset": 0.1},
        {"prior_loss_weight": 0.5},
        {"prior_loss_weight": 0.0},
        {"prediction_type": "v_prediction"},
        {"precision": "bf16"},
        {"steps": 0, "epochs": 1},
    ],
    ids=str,
)
def test_every_option_changes_the_weights(plain, options):
    work, made, tensors = plain
    found = learned(work, made, **options)
    assert found.keys() != tensors.keys() or any(not torch.equal(found[name], tensors[name]) for name in tensors)


def learned(work, made, **options):
    """Train without a file, and what was learned by the name of each weight."""
    config, model = train_options(**QUICK | {"save_every_epochs": 0} | options), checkpoint(work)
    job = build_job(RunConfig(config, SD1(), model, split_dataset(config, made).train), work, nothing).job
    learner = make_train_state(job.param_groups, config.optimizer, DistributedContext())
    train(job, learner, 0, ())
    return {name: value.clone() for name, value in learner.result().items()}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    work, made = data(tmp_path_factory.mktemp("plain"))
    return work, made, learned(work, made)


def test_what_is_learned_is_what_the_file_holds(tmp_path):
    """So that options which change the weights change the file."""
    work, made = data(tmp_path)
    file, _ = run(work, made, save_precision="fp32")
    ends = {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight"}
    found = {key: value for key, value in load_file(file).items() if not key.endswith("alpha")}
    weights = learned(work, made)
    assert len(found) == len(weights)
    for name, value in weights.items():
        path, end = next((name.removesuffix(f".{ours}"), theirs) for ours, theirs in ends.items() if ours in name)
        key = SD1().key("unet", path.removeprefix("unet."))
        assert torch.equal(found[f"{key}.{end}"].flatten(), value.flatten())


def test_parts_that_are_off_have_no_keys(plain):
    work, made, _ = plain
    only_unet = load_file(run(work, made)[0])
    assert {name.split("_")[1] for name in only_unet} == {"unet"}
    assert {value.dtype for value in only_unet.values()} == {torch.float16}
    only_text = load_file(run(work, made, learning_rate=0.0, text_encoder_lr=1e-3)[0])
    assert {name.split("_")[1] for name in only_text} == {"te"}


def test_precision_of_the_file(plain):
    work, made, _ = plain
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        assert {value.dtype for value in load_file(run(work, made, save_precision=name)[0]).values()} == {dtype}


def test_without_regularization_none_is_shown(plain):
    work, made, _ = plain
    file, _ = run(work, made, prior_loss_weight=0.0, output="none")
    rows = pq.read_table(file.with_name("metrics.parquet")).to_pylist()
    assert all(row["prior_loss"] is None for row in rows)


def test_loss_falls(tmp_path):
    work = workspace(tmp_path)
    made = manifest(work, [placed(work, k) for k in range(2)])
    file, _ = run(work, made, steps=60, learning_rate=5e-3)
    losses = [row["loss"] for row in pq.read_table(file.with_name("metrics.parquet")).to_pylist()]
    assert sum(losses[-15:]) < 0.75 * sum(losses[:15])


def test_captions_that_are_too_long_are_listed(tmp_path, caplog):
    work = workspace(tmp_path)
    long = placed(work, 1, caption=", ".join(["apron"] * 60))
    file, _ = run(work, manifest(work, [placed(work, 0), long]), steps=2)
    assert json.loads(file.with_name("run.json").read_text())["too_long"] == [long.id]
    assert "1 longer caption" in caplog.text


def test_base_is_provenance_and_its_path_is_not():
    stage = train_stage(base="mini")
    assert "base" not in stage.params()
    assert "device" not in stage.params()
    assert {"learning_rate", "seed", "rank", "output"} <= stage.params().keys()


def test_models_carry_the_bases_hash(tmp_path):
    work = workspace(tmp_path)
    (model,) = train_stage().models(work)
    assert (model.name, model.sha256) == ("mini", checkpoint(work).base.sha256)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"output": "a/b"}, "cannot be a file name"),
        ({"output": ""}, "cannot be a file name"),
        ({"output": ".."}, "cannot be a file name"),
        ({"output": "a\nb"}, "cannot be a file name"),
        ({"output": "a."}, "cannot be a file name"),
        ({"learning_rate": 0.0}, "all learning rates are 0"),
        ({"lr_warmup": 0.1}, "lr_scheduler constant has no warm-up"),
        ({"rank": 0}, "rank is 0"),
        ({"steps": -1}, "steps is -1"),
    ],
)
def test_options_that_make_no_sense(options, said):
    with pytest.raises(PrepError, match=said):
        train_stage(**options)


def test_a_rate_for_a_part_that_the_base_has_not(tmp_path):
    work, made = data(tmp_path)
    with pytest.raises(PrepError, match=r"Stable Diffusion 1\.x has no second text encoder"):
        run(work, made, text_encoder_2_lr=1e-4)


def test_empty_data_set(tmp_path):
    work = workspace(tmp_path)
    for records in ([], [placed(work, 1, dataset_path="")], [placed(work, 1, role="reg")]):
        with pytest.raises(PrepError, match="no images to train on"):
            run(work, manifest(work, records))
    assert not work.runs.exists()


def test_image_that_is_gone(tmp_path):
    work, made = data(tmp_path)
    next(iter(work.images.iterdir())).unlink()
    with pytest.raises(PrepError, match=r"images/.*\.png is missing"):
        run(work, made)


def test_a_failed_run_keeps_the_earlier_file(tmp_path, monkeypatch):
    work, made = data(tmp_path)
    file, _ = run(work, made)
    before = file.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(
            "training.methods.adapters.verify_adapter", lambda *given: (_ for _ in ()).throw(PrepError("no proof"))
        )
        with pytest.raises(PrepError, match="no proof"):
            run(work, made, seed=9)
    assert not file.exists()
    assert (work.runs / "run-1" / "run.safetensors").read_bytes() == before
    assert run(work, made)[0].read_bytes() == before  # the same command as before brings it back


def test_learning_rate_that_is_far_too_high_names_records(tmp_path):
    work, made = data(tmp_path)
    with pytest.raises(PrepError) as caught:
        run(work, made, steps=40, learning_rate=1e30)
    assert "is not finite; its batch holds the records" in caught.value.wrong
    assert any(record.id in caught.value.wrong for record in made.records())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_that_is_not_there(tmp_path):
    work, made = data(tmp_path)
    with pytest.raises(PrepError, match="no GPU"):
        run(work, made, device="cuda")


def test_importing_the_command_imports_nothing_heavy():
    import subprocess
    import sys

    code = (
        "import sys, training.train; "
        "print([m for m in ('numpy', 'torch', 'PIL', 'pyarrow', 'safetensors', 'peft') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_threads_wait_without_spinning_unless_told_otherwise(tmp_path, monkeypatch):
    work = workspace(tmp_path)
    for given in (None, "active"):
        monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
        if given:
            monkeypatch.setenv("OMP_WAIT_POLICY", given)
        with pytest.raises(PrepError):
            run(work, manifest(work, []))
        assert os.environ["OMP_WAIT_POLICY"] == (given or "passive")


def test_stage_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        train_options().method.rank = 3  # type: ignore[misc]


def test_a_finished_run_is_up_to_date_unless_it_is_restarted(tmp_path):
    work, made = data(tmp_path)
    settings = RunSettings(local.run, 1, quiet=True)

    def update(**options):
        return update_stage(StagePlan("train", (train_stage(**QUICK | options),)), made, work, settings)

    assert update().worked and not update().worked
    first = (work.runs / "run" / "run.safetensors").read_bytes()
    assert update(restart=True).worked
    assert (work.runs / "run-1" / "run.safetensors").read_bytes() == first
    assert (work.runs / "run" / "run.safetensors").read_bytes() == first
    assert not update().worked
