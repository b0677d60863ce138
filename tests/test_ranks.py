"""Several processes that train together do what one does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from training.steps.ranks import Ranks, find_ranks

ROOT = Path(__file__).resolve().parent.parent


@given(total=st.integers(0, 20), count=st.integers(1, 5))
def test_shares_make_up_the_whole(total, count):
    whole = list(range(total))
    shares = [Ranks(number, count).share(whole) for number in range(count)]
    assert sorted(item for share in shares for item in share) == whole
    spread = [Ranks(k, count).spread(torch.tensor(share, dtype=torch.float), total) for k, share in enumerate(shares)]
    if count > 1:
        assert torch.stack(spread).sum(0).tolist() == whole
    assert spread[0].numel() == total


def test_alone_there_is_nothing_to_add_or_wait_for(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ranks = find_ranks("cpu")
    assert ranks == Ranks(0, 1) and ranks.first
    tensors = [torch.ones(2)]
    ranks.add(tensors)
    ranks.wait()
    assert tensors[0].tolist() == [1, 1] and ranks.largest(3) == 3


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path):
    """Also in batches with fewer pictures than processes; equal but for the order of float sums."""
    for count in (1, 3):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        process = subprocess.run(
            [*command, "-m", "tests.toy_run", str(tmp_path / str(count)), "12", "0"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        )
        assert process.returncode == 0, process.stderr
    states = [
        load_file(tmp_path / name / "checkpoints" / "key of the run" / "step-00000012" / "state.safetensors")
        for name in ("1", "3")
    ]
    assert states[0].keys() == states[1].keys()
    for name in states[0]:
        torch.testing.assert_close(states[0][name], states[1][name], rtol=1e-5, atol=1e-7)
    for name in ("seen", "metrics"):
        one, three = (pq.read_table(tmp_path / count / f"{name}.parquet") for count in ("1", "3"))
        assert one.drop(["loss"]).num_rows == three.num_rows
        for column in one.column_names:
            if column in ("loss", "prior_loss", "norm", "weight"):
                filled = [table[column].fill_null(-1).to_pylist() for table in (one, three)]
                assert filled[1] == pytest.approx(filled[0], rel=1e-4)
            else:
                assert three[column] == one[column]
