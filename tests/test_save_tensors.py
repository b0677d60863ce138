"""A full disk while tensors are written is an error of the system, not of a library."""

from __future__ import annotations

import errno
import resource
import signal

import pytest
import torch
from safetensors.torch import load_file

from pipeline.save_tensors import save_tensors


def test_tensors_and_metadata_are_written(tmp_path):
    save_tensors({"a": torch.arange(3)}, tmp_path / "t.safetensors", {"format": "pt"})
    assert torch.equal(load_file(tmp_path / "t.safetensors")["a"], torch.arange(3))


def test_what_the_system_refuses_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match=r"No such file") as caught:
        save_tensors({"a": torch.ones(3)}, tmp_path / "none" / "t.safetensors")
    assert caught.value.errno == errno.ENOENT and str(tmp_path) in caught.value.filename


def test_a_file_beyond_the_limit(tmp_path):
    """As on a full disk: the system stops the writer in the middle of the file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        with pytest.raises(OSError, match=r"File too large") as caught:
            save_tensors({"a": torch.ones(100_000)}, tmp_path / "t.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno == errno.EFBIG
