"""Settings of the whole test run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.hub import Hub

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may need the network
# Two workers share two cores. With two threads each, small steps wait for each other longer than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_CACHE"] = tempfile.mkdtemp(prefix="prep-test-hub-cache-")  # never the user's own
os.environ["PREP_MODELS"] = tempfile.mkdtemp(prefix="prep-test-models-")  # never the user's own

# The machine may be busy: a slow example is no failure. Derandomized: the same run everywhere.
settings.register_profile("prep", deadline=None, derandomize=True)
settings.load_profile("prep")


@pytest.fixture
def models_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty models and Hugging Face cache folders, a token, no proxy, and no waiting between attempts."""
    monkeypatch.setenv("PREP_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # for other processes; this one has read it already
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 20_000)  # what a break can lose
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    return tmp_path / "models"


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A running model hub."""
    from tests.hub import Hub, serve

    with serve(Hub()) as hub:
        yield hub
