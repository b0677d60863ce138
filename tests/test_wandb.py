"""Logging to Weights & Biases, with a module in its place that remembers what it was told: no test uses the network."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import pytest

from pipeline.errors import PrepError
from training.evaluation.run_logger import LoggedImage, LoggedRun
from training.evaluation.wandb import RUN_ID, WandbWriter, require_wandb


class Refused(Exception):
    """As wandb.errors.Error."""


class FakeRun:
    """A W&B run."""

    def __init__(self, id, url):
        self.id, self.url, self.offline, self.dir = id, url, not url, "/runs/wandb/offline-run-1/files"
        self.metrics, self.rows, self.exit_code = {}, [], None

    def define_metric(self, name, step_metric=None):
        self.metrics[name] = step_metric

    def log(self, row):
        self.rows.append(row)

    def finish(self, exit_code):
        self.exit_code = exit_code


class FakeWandb(ModuleType):
    """As much of wandb as prep calls."""

    def __init__(self):
        super().__init__("wandb")
        self.errors, self.Settings, self.mode, self.key = SimpleNamespace(Error=Refused), dict, "online", "key"
        self.runs, self.settings, self.logins = [], [], 0

    def setup(self, settings=None):
        self.settings += [settings] if settings else []
        return SimpleNamespace(settings=SimpleNamespace(mode=self.mode))

    def login(self):
        self.logins += 1
        if not self.key:
            raise Refused("No API key configured.")

    def init(self, **given):
        url = f"https://wandb.test/{given['project']}" if self.mode == "online" else None
        self.runs.append((given, FakeRun(given["id"] or f"new{len(self.runs)}", url)))
        return self.runs[-1][1]

    @staticmethod
    def Image(path, caption):
        return (path, caption)


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    fake.__spec__ = importlib.util.spec_from_loader("wandb", loader=None)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for name in ("WANDB_PROJECT", "WANDB_NAME"):
        monkeypatch.delenv(name, raising=False)
    return fake


def run_in(folder, project="smith"):
    return LoggedRun(folder / "runs" / "v1", project, {"rank": 4})


def test_a_run_with_its_names_options_and_values(wandb, tmp_path, caplog):
    writer = WandbWriter(run_in(tmp_path, "a/b:c"), 0)
    ((given, run),) = wandb.runs
    assert (given["project"], given["name"], given["config"]) == ("a-b-c", "v1", {"rank": 4})
    assert given["dir"] == str(tmp_path / "runs" / "v1") and given["id"] is None and given["resume"] is None
    writer.write_scalars(2, {"loss/train": 0.5})
    writer.write_scalars(1, {"loss/train": 1.0})
    writer.write_images(2, [LoggedImage(2, 1, "photo of smith", tmp_path / "01.png")])
    assert run.rows[:2] == [{"step": 2, "loss/train": 0.5}, {"step": 1, "loss/train": 1.0}]
    assert run.rows[2] == {"step": 2, "sample/01": (str(tmp_path / "01.png"), "photo of smith")}
    assert run.metrics == {"step": None, "*": "step"}  # W&B drops a row whose own step is lower than one before it
    writer.close(failed=False)
    assert run.exit_code == 0 and "https://wandb.test/a-b-c" in caplog.text


def test_wandb_itself_prints_nothing(wandb, tmp_path):
    """The progress bar is not broken, nothing is asked, and --quiet is quiet: prep says what there is to say."""
    WandbWriter(run_in(tmp_path), 0)
    assert {"silent": True, "console": "off"} in wandb.settings


def test_a_resumed_run_continues_its_wandb_run_and_a_new_one_does_not(wandb, tmp_path):
    WandbWriter(run_in(tmp_path), 0).close(failed=True)
    WandbWriter(run_in(tmp_path), 4).close(failed=False)
    WandbWriter(run_in(tmp_path), 0)
    assert [(given["id"], given["resume"]) for given, _ in wandb.runs] == [
        (None, None),
        ("new0", "allow"),
        (None, None),
    ]
    assert [run.exit_code for _, run in wandb.runs] == [1, 0, None]


@pytest.mark.parametrize("damaged", ["../up", "", "a" * 65, "a b"])
def test_a_damaged_id_begins_another_run(wandb, tmp_path, damaged):
    file = run_in(tmp_path).folder / RUN_ID
    file.parent.mkdir(parents=True)
    file.write_text(damaged)
    WandbWriter(run_in(tmp_path), 4)
    assert wandb.runs[0][0]["id"] is None


def test_names_of_the_environment_win(wandb, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_NAME", "first")
    WandbWriter(run_in(tmp_path), 0)
    assert (wandb.runs[0][0]["project"], wandb.runs[0][0]["name"]) == ("mine", "first")


def test_offline_needs_no_login_and_says_how_to_upload(wandb, tmp_path, caplog):
    wandb.mode, wandb.key = "offline", ""
    require_wandb()
    WandbWriter(run_in(tmp_path), 0)
    assert not wandb.logins and "wandb sync /runs/wandb/offline-run-1" in caplog.text


def test_online_without_a_login_is_an_error_before_training(wandb):
    require_wandb()
    wandb.key = ""
    with pytest.raises(PrepError, match="No API key configured") as caught:
        require_wandb()
    assert "wandb login" in caught.value.hint and "WANDB_MODE=offline" in caught.value.hint


def test_a_server_that_refuses_is_an_error(wandb, tmp_path, monkeypatch):
    def refuse(**given):
        raise Refused("no route\x1b[31m to host")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(PrepError, match="no route") as caught:
        WandbWriter(run_in(tmp_path), 0)
    assert "\x1b" not in caught.value.wrong
