"""Where models run: a GPU that is asked for and absent, or there and useless, ends the command in one sentence."""

import contextlib
import sys
import types

import onnxruntime
import pytest
import torch

import taggers.device
from pipeline.errors import PrepError
from pipeline.workspace import Workspace
from taggers.danbooru.onnx_session import CPU, CUDA, open_session
from taggers.device import cores, gpus, torch_device, wants_gpu
from tests.tagger_files import FORMATS
from tests.tiny import one_thread  # noqa: F401


@pytest.fixture(autouse=True)
def _models(tmp_path, monkeypatch):
    monkeypatch.setenv("PREP_MODELS", str(tmp_path / "models"))


def machine(monkeypatch, *, driver: int, torch_sees: bool = False):
    """Pretend: so many GPUs in the driver's eyes, and whether torch can use them."""
    monkeypatch.setattr(taggers.device, "gpus", lambda: driver)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: torch_sees)


@pytest.mark.parametrize("name", FORMATS)
def test_every_tagger_says_what_is_the_matter_with_the_gpu(tmp_path, monkeypatch, name, capfd):
    cls, write = FORMATS[name]
    write(tmp_path / "model")
    workspace = Workspace(tmp_path)
    machine(monkeypatch, driver=0)
    with pytest.raises(PrepError) as absent:
        cls(model="model", device="cuda").start(workspace)
    assert absent.value.wrong == "--device cuda needs a CUDA GPU, and there is none."
    machine(monkeypatch, driver=1)
    for device in ("auto", "cuda"):
        with pytest.raises(PrepError, match=r"^There is a GPU, but (torch .*|onnxruntime) cannot use it\.") as useless:
            cls(model="model", device=device).start(workspace)
        assert "--device cpu" in useless.value.hint
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("device", "driver", "torch_sees", "wanted"),
    [
        ("auto", 0, False, "cpu"),
        ("auto", 2, True, "cuda"),
        ("auto", 0, True, "cuda"),  # AMD's
        ("cuda", 1, True, "cuda"),
        ("cpu", 1, True, "cpu"),
        ("cpu", 1, False, "cpu"),
    ],
)
def test_torch_takes_the_gpu_it_can_use(monkeypatch, device, driver, torch_sees, wanted):
    machine(monkeypatch, driver=driver, torch_sees=torch_sees)
    assert torch_device(device).type == wanted


class FakeSession:
    def __init__(self, path, options, providers):
        self.providers, self.threads = providers, options.intra_op_num_threads

    def get_providers(self):
        return self.providers


@pytest.mark.parametrize(("device", "driver", "on_gpu"), [("auto", 1, True), ("auto", 0, False), ("cpu", 1, False)])
def test_onnxruntime_finds_torchs_libraries_before_it_asks_for_the_gpu(tmp_path, monkeypatch, device, driver, on_gpu):
    (tmp_path / "model.onnx").write_bytes(b"x")
    asked = []
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: asked.append("libraries"), raising=False)
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda *a, **how: asked.append("session") or FakeSession(*a, **how)
    )
    machine(monkeypatch, driver=driver)
    session = open_session(tmp_path / "model.onnx", device, "")
    assert session.providers == ([CUDA, CPU] if on_gpu else [CPU]) and session.threads == 1
    assert asked == (["libraries", "session"] if on_gpu else ["session"])


def test_the_driver_itself_is_asked(monkeypatch):
    """No driver, one that fails, and one with three devices."""

    def driver(fault=0, devices=0):
        def count(place):
            place._obj.value = devices
            return 0

        return types.SimpleNamespace(cuInit=lambda flags: fault, cuDeviceGetCount=count)

    def absent(name):
        raise OSError(name)

    for load, wanted in ((absent, 0), (lambda n: driver(fault=100), 0), (lambda n: driver(devices=3), 3)):
        monkeypatch.setattr(taggers.device.ctypes, "CDLL", load)
        assert gpus() == wanted
        assert wants_gpu("auto") is (wanted > 0) and not wants_gpu("cpu")


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    with contextlib.suppress(AttributeError):
        monkeypatch.setattr(taggers.device.os, "sched_getaffinity", lambda pid: {3, 5, 9})
        assert cores() == 3
    assert "torch" not in sys.modules or cores() >= 1
