"""A run on the mini base model with two small sample images, for tests of sampling."""

from __future__ import annotations

from pathlib import Path

from tests.training_options import train_options
from tests.training_set import checkpoint, manifest, placed, workspace
from training.batch import RunConfig
from training.checkpoints.run_state import RunPaths
from training.data.dataset import read_samples
from training.distributed import DistributedContext
from training.models.sd1 import SD1
from training.optim.train_state import make_train_state
from training.sampling.prompts import sample_requests
from training.sampling.sample_callback import SampleCallback
from training.setup import build_job

PROMPTS = "smith --w 64 --h 64 --s 2\na man of smith --w 64 --h 128 --s 2 --l 3\n"


def sample_callback(folder: Path, prompts: str = PROMPTS, **options: object) -> SampleCallback:
    """The callback of such a run, before on_train_begin."""
    work = workspace(folder)
    (work.root / "prompts.txt").write_text(prompts)
    config = train_options(**{"rank": 2, "learning_rate": 1e-2, "sample_prompts": "prompts.txt"} | options)
    images = read_samples(manifest(work, [placed(work, 1), placed(work, 2)]))
    run = build_job(RunConfig(config, SD1(), checkpoint(work), images), work, lambda done, total: None)
    train_state = make_train_state(run.job.param_groups, config.optimizer, DistributedContext())
    requests = sample_requests(config.sampling, images, work, config.optimizer.seed)
    return SampleCallback(run, train_state, requests, work, RunPaths(work.runs / "run", "key"))
