"""Parts of a base model are in memory only while they are used."""

from __future__ import annotations

import weakref

import pytest
import torch

from pipeline.errors import PrepError
from pipeline.workspace import Workspace
from tests.training_set import checkpoint, narrow, shared
from training.models.sd1 import SD1
from training.models.sd35 import SD35
from training.sampling.parts_on_demand import PartsOnDemand, denoiser_dtype

CPU = torch.device("cpu")


def parts(dtype=torch.float32):
    return PartsOnDemand(SD1(), checkpoint(Workspace(shared()), str(narrow("sd1"))), CPU, dtype)


def test_only_what_is_used_stays():
    loader = parts()
    text = weakref.ref(loader.use("text_encoder")["text_encoder"])
    assert text() is not None and not loader.resident
    unet = loader.use("unet")["unet"]
    assert text() is None and loader.use("unet")["unet"] is unet
    gone = weakref.ref(unet)
    del unet
    loader.use("vae")
    assert gone() is None and set(loader.loaded) == {"vae"}
    loader.release()
    assert not loader.loaded


def test_the_vae_stays_in_float32():
    loader = parts(torch.bfloat16)
    assert next(loader.use("vae")["vae"].parameters()).dtype == torch.float32
    assert next(loader.use("unet")["unet"].parameters()).dtype == torch.bfloat16


def test_precisions():
    gpu = torch.device("cuda")
    assert denoiser_dtype(SD1(), "auto", CPU) == denoiser_dtype(SD1(), "fp32", gpu) == torch.float32
    assert denoiser_dtype(SD1(), "auto", gpu) == torch.float16 and denoiser_dtype(SD35(), "auto", gpu) == torch.bfloat16
    with pytest.raises(PrepError, match="fp16 is slower"):
        denoiser_dtype(SD1(), "fp16", CPU)
