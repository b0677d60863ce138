"""Exported checkpoints: equal to the file of a run that ends there, and kept if an option asks for them."""

from __future__ import annotations

import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pipeline.errors import PrepError
from tests.method_set import materials, trainee
from tests.training_options import train_options, train_stage
from tests.training_set import manifest, placed, workspace
from training.batch import TrainingStep
from training.checkpoints.run_state import RunPaths
from training.distributed import DistributedContext
from training.export.artifacts import ArtifactFolder, write_artifact
from training.export.intermediate import IntermediateExports
from training.run_key import run_key

# Two images shown twice, and as often a regularization image: four steps to an epoch.
QUICK = {"steps": 6, "batch_size": 2, "rank": 2, "learning_rate": 1e-3, "save_every_steps": 3, "save_total_limit": 9}


def nothing(done, total):
    """Report to nobody."""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    work = workspace(tmp_path_factory.mktemp("exports"))
    return work, manifest(work, [placed(work, 0), placed(work, 1), placed(work, 4, role="reg")])


def run(home, output, **options):
    """Train to the end; the folder of the run."""
    stage = train_stage(**QUICK | {"output": output} | options)
    list(stage.run(home[1], home[0], nothing))
    return stage.config.file(home[0]).parent


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(f"{folder.name}-"))


def about(file):
    with safe_open(file, "pt") as opened:
        return opened.metadata()


@pytest.fixture(scope="module")
def plain(home):
    return run(home, "plain", ema_decay=0.5, save_precision="fp32")


def test_named_by_epoch_or_step(plain):
    """After step 3, after epoch 1, which is step 4, and nothing after the last: that is the run's own file."""
    assert names(plain) == ["plain-000001.safetensors", "plain-step00000003.safetensors"]
    assert about(plain / "plain-000001.safetensors")["ss_steps"] == "4"
    assert about(plain / "plain-step00000003.safetensors")["ss_steps"] == "3"


def test_each_is_the_file_of_a_run_that_ends_there(home, plain):
    """To the last bit: the average, its alpha, and all that it says of itself but its name."""
    short = run(home, "short", steps=4, ema_decay=0.5, save_precision="fp32")
    copy, whole = plain / "plain-000001.safetensors", short / "short.safetensors"
    found, wanted = load_file(copy), load_file(whole)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    names = {"ss_output_name", "modelspec.title"}
    assert {k: v for k, v in about(copy).items() if k not in names} == {
        k: v for k, v in about(whole).items() if k not in names
    }


def test_the_run_is_the_same_without_them(home, plain):
    bare = run(home, "bare", ema_decay=0.5, save_precision="fp32", export_checkpoints="off")
    assert names(bare) == []
    found, wanted = (load_file(folder / f"{folder.name}.safetensors") for folder in (bare, plain))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    states = [sorted(folder.glob("checkpoints/*/step-*/state.safetensors")) for folder in (bare, plain)]
    assert len(states[0]) == len(states[1]) == 3
    for one, other in zip(*states, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_all_that_were_asked_for_are_kept_whatever_checkpoints_are(home, caplog):
    folder = run(home, "few", save_total_limit=1)
    assert names(folder) == ["few-000001.safetensors", "few-step00000003.safetensors"]
    assert len(list(folder.glob("checkpoints/*/step-*"))) == 1
    assert names(run(home, "few", save_total_limit=1, save_every_steps=0, steps=9)) == [
        "few-000001.safetensors",
        "few-000002.safetensors",
        "few-step00000003.safetensors",  # asked for by the first part of the run
        "few-step00000006.safetensors",  # what was its result
    ]
    assert "Resuming from the checkpoint of step 6; --restart starts again." in caplog.messages


def test_one_that_was_only_the_best_so_far_goes_with_its_checkpoint(tmp_path, monkeypatch):
    """What no option asks for: steps 2 and 5 stand for the best ones of a validation."""
    monkeypatch.setattr("training.export.intermediate.file_metadata", lambda *about: {})
    config = train_options(save_every_steps=3, save_every_epochs=0)
    method = SimpleNamespace(files=lambda dtype: {".safetensors": {"a": torch.ones(1)}})
    made = SimpleNamespace(plan=SimpleNamespace(config=config, samples=[], validation=[]), method=method)
    state = SimpleNamespace(distributed=DistributedContext(), ema_weights=nullcontext)
    exports = IntermediateExports(made, state, RunPaths(tmp_path, "key"), None)
    for number in (2, 3, 5):
        exports.prune([number])  # all other checkpoints are gone
        exports.export(TrainingStep(number, 9, 1, False, [], 1e-4, torch.ones(())))
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == [
        "run-step00000003.safetensors",
        "run-step00000005.safetensors",
    ]
    exports.prune([6])
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["run-step00000003.safetensors"]
    assert json.loads((tmp_path / "exports.json").read_text())["files"] == {"3": ["run-step00000003.safetensors"]}


def test_another_run_of_the_name_keeps_them(home):
    folder = run(home, "again", save_total_limit=9)
    (folder / "again-mine.safetensors").write_bytes(b"the user's own")
    before = {path.name for path in folder.glob("*.safetensors")}
    run(home, "again", save_total_limit=9, steps=4, rank=3)
    assert names(folder) == ["again-step00000003.safetensors"]
    assert {path.name for path in folder.with_name("again-1").glob("*.safetensors")} == before


def test_the_last_step_has_one_where_the_best_becomes_the_file(tmp_path):
    work = workspace(tmp_path)
    val = [placed(work, k, role="val", dataset_path=f"dataset/val_x/1_smith man/{k}.png") for k in (10, 11, 12)]
    made = manifest(work, [placed(work, 0), placed(work, 1), *val])
    folder = run((work, made), "best", keep_weights="best", steps=2, validation_timesteps=1)
    assert names(folder) == ["best-000001.safetensors"]
    assert about(folder / "best-000001.safetensors")["ss_steps"] == "2"


def test_whole_models_only_when_asked(home):
    how = {"method": "dreambooth", "rank": train_stage().config.method.rank, "steps": 4, "save_every_epochs": 0}
    assert names(run(home, "dream", **how)) == []
    assert names(run(home, "asked", **how, export_checkpoints="on")) == [
        "asked-step00000003",
        "asked-step00000003.safetensors",
    ]


@pytest.mark.parametrize("method", ["lora", "locon", "loha", "lokr", "dora", "dreambooth", "textual-inversion"])
def test_files_change_nothing_and_are_those_of_the_end(tmp_path, method):
    found = materials(workspace(tmp_path), "mini", method=method)
    made = trainee(found)
    stream = torch.Generator().manual_seed(0)
    weights = {name: weight for group in made.param_groups() for name, weight in group.weights.items()}
    for weight in weights.values():
        weight.data += 0.01 * torch.randn(weight.shape, generator=stream)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    early = _tensors(made.files(torch.float16))
    again = _tensors(made.files(torch.float16))
    assert all(torch.equal(before[name], weight) and weight.requires_grad for name, weight in weights.items())
    late = _tensors(made.finalize(torch.float16))
    assert early.keys() == late.keys() == again.keys()
    for name, value in late.items():
        assert value.dtype == early[name].dtype and torch.equal(value, early[name]) and torch.equal(value, again[name])
    assert any(value.dtype == torch.float16 for value in late.values())


@pytest.mark.parametrize("method", ["lora", "lokr", "dora", "dreambooth", "textual-inversion"])
def test_files_of_a_trainee_that_goes_on_are_proven(tmp_path, method):
    """Before anything is settled: files of a base that has not learned fail, those of one that has pass."""
    made = trainee(materials(workspace(tmp_path), "sd1", method=method))
    early = _written(made, tmp_path / "early")
    if method != "dora":  # whose lengths, rounded for the file, change the base a little
        with pytest.raises(PrepError, match=r"did not change the|does not change the"):
            made.verify(early)
    weights = [weight for group in made.param_groups() for weight in group.weights.values()]
    stream = torch.Generator().manual_seed(0)
    for weight in weights:
        weight.data += 0.05 * torch.randn(weight.shape, generator=stream)
    before = [weight.detach().clone() for weight in weights]
    files = _written(made, tmp_path / "late")
    made.verify(files)
    assert all(torch.equal(one, other) for one, other in zip(weights, before, strict=True))
    assert all(weight.requires_grad for weight in weights)
    save_file({"lora_unet_nowhere.alpha": torch.tensor(1.0)} | load_file(files[".safetensors"]), files[".safetensors"])
    if method not in ("dreambooth", "textual-inversion"):
        with pytest.raises(PrepError, match=r"no layer for .*lora_unet_nowhere"):
            made.verify(files)


def test_a_folder_and_a_file_that_differ_are_found(tmp_path):
    made = trainee(materials(workspace(tmp_path), "sd1", method="dreambooth"))
    for group in made.param_groups():
        for weight in group.weights.values():
            weight.data *= 1.1
    files = _written(made, tmp_path / "x")
    name = "model.diffusion_model.middle_block.0.in_layers.2.weight"
    tensors = load_file(files[".safetensors"])
    save_file(tensors | {name: tensors[name] * 1.5}, files[".safetensors"])
    with pytest.raises(PrepError, match="does not reproduce the trained unet"):
        made.verify(files)


def test_what_fails_at_the_end_loses_its_name(home, caplog, monkeypatch):
    """A file that changes nothing, here by its alphas; the others and the run's own are as ever."""

    def faulty(path, tensors, about):
        if "step00000003" in path.name:
            tensors = {name: value * (not name.endswith("alpha")) for name, value in tensors.items()}
        write_artifact(path, tensors, about)

    monkeypatch.setattr("training.export.intermediate.write_artifact", faulty)
    folder = run(home, "faulty")
    aside = "faulty-step00000003.unverified.safetensors"
    assert names(folder) == ["faulty-000001.safetensors", aside]
    assert json.loads((folder / "exports.json").read_text())["files"] == {
        "3": [aside],
        "4": ["faulty-000001.safetensors"],
    }
    said = next(message for message in caplog.messages if "step 3" in message)
    assert said.startswith(f"Renamed the files of step 3 to {aside}: ")
    assert "faulty.safetensors" in {path.name for path in folder.iterdir()}


def test_files_that_the_user_took_away_are_not_missed(home, monkeypatch):
    export = IntermediateExports.export

    def taken(self, step):
        export(self, step)
        if step.number == 3:
            (self.paths.folder / "taken-step00000003.safetensors").unlink()

    monkeypatch.setattr(IntermediateExports, "export", taken)
    assert names(run(home, "taken")) == ["taken-000001.safetensors"]


def _written(made, folder):
    """A trainee's files as they are now, in a folder, by the end of their names."""
    folder.mkdir()
    paths = {end: folder / f"x{end}" for end in made.files(torch.float16)}
    for end, product in made.files(torch.float16).items():
        write_artifact(paths[end], product, {})
    return paths


def _tensors(files):
    """All tensors of a method's files by file and name."""
    found = {}
    for end, product in files.items():
        parts = {n: t() for n, t in product.tensors.items()} if isinstance(product, ArtifactFolder) else {"": product}
        found |= {
            (end, part, name): value.clone() for part, tensors in parts.items() for name, value in tensors.items()
        }
    return found


def test_options_do_not_change_the_course(home):
    one = train_stage(**QUICK).config
    assert run_key(one.with_values({"export_checkpoints": "off"}), home[1], home[0]) == run_key(one, home[1], home[0])
