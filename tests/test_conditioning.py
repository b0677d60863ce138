"""What prompts tell: whose encoders stay loaded, and who makes room when memory is short."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from tests.training_options import train_options
from tests.training_set import checkpoint, manifest, placed, workspace
from training.batch import RunConfig
from training.data.conditioning import OffloadableEncoders
from training.data.dataset import read_samples
from training.models.families import detect_family
from training.models.loader import BaseModel
from training.setup import build_job


class Fake:
    """A text encoder that lies elsewhere, on 'meta', until it is sent away."""

    def __init__(self):
        self.moves = []
        self.weight = torch.empty(1, device="meta")

    def parameters(self):
        return iter([self.weight])

    def to(self, device):
        self.moves.append(device)
        self.weight = torch.empty(1, device=device)


def test_standby_encoders_leave_once():
    one, other = Fake(), Fake()
    standby = OffloadableEncoders(
        {"text_encoder": one, "text_encoder_2": other}, lambda prompts: {"text": torch.ones(1)}
    )
    assert standby.encode_prompts(["a"])["text"] == 1 and one.moves == []
    assert standby.offload() and not standby.offload()
    assert one.moves == other.moves == ["cpu"]


def test_without_enough_memory_prompts_are_encoded_on_the_cpu(caplog):
    encoder = Fake()

    def encode(prompts):
        if encoder.weight.device.type != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return {"text": torch.ones(len(prompts))}

    standby = OffloadableEncoders({"text_encoder": encoder}, encode)
    assert standby.encode_prompts(["a", "b"])["text"].tolist() == [1, 1]
    assert caplog.messages == ["Out of GPU memory for the text encoders: continuing with them on the CPU."]
    encoder.weight = torch.empty(1)
    with pytest.raises(torch.OutOfMemoryError):
        OffloadableEncoders({"text_encoder": encoder}, lambda prompts: _fail()).encode_prompts(["a"])


def _fail():
    raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize(
    ("options", "alive"),
    [
        ({}, set()),
        ({"shuffle_caption": True}, {"text_encoder"}),
        ({"text_encoder_lr": 1e-5}, {"text_encoder"}),
        ({"caption_dropout": 0.5}, set()),
    ],
)
def test_what_stays_loaded(tmp_path, monkeypatch, options, alive):
    """The VAE never, encoders where they learn or captions vary without end; the denoiser always."""
    work = workspace(tmp_path)
    made = manifest(work, [placed(work, 0, caption="smith, hat, coat, boots")])
    model, born = checkpoint(work), {}
    load = BaseModel.load

    def remembered(self, part, *given):
        module = load(self, part, *given)
        born[part] = weakref.ref(module)
        return module

    monkeypatch.setattr(BaseModel, "load", remembered)
    run = build_job(
        RunConfig(train_options(rank=2, **options), detect_family(model), model, read_samples(made)),
        work,
        lambda *_: None,
    )
    gc.collect()
    assert {"vae", "text_encoder", "unet"} == born.keys()
    assert {part for part, module in born.items() if module() is not None} == {"unet"} | alive
    assert run.job.offload() is False  # on the processor nothing is to be gained
    assert run.job.encode_prompts(["smith, hat, coat, boots"])["text"].shape == (1, 77, 64)
