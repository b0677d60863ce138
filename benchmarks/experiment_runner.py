"""Runs the arms of benchmarks/world.py side by side, a thread for each, and keeps what they came to.

Arms take turns, seed by seed, so that a run that is broken off has compared what it can. What was found is written at
once; the next run with the same file goes on from there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click

from benchmarks import experiments, overfitting
from benchmarks.training_variants import EXPERIMENTS, TrainingVariant
from benchmarks.experiments import ExperimentResult
from benchmarks.sample_scores import SampleScores
from benchmarks.overfitting import VARIANT, CheckpointScores
from pipeline.workspace import write_atomic

RunCheckpoints = list[CheckpointScores]


@dataclass(frozen=True, slots=True)
class Job:
    """An arm with a seed; that of overfitting is judged at every checkpoint."""

    variant: TrainingVariant
    seed: int

    @property
    def folder(self) -> str:
        return f"{self.variant.name}-{self.seed}".replace(" ", "-").replace("'", "")


def list_jobs(names: list[str], seeds: int) -> list[Job]:
    """What is to be run for these experiments, each arm once a seed even if several experiments have it."""
    arms = [arm for name in names for arm in ([VARIANT] if name == VARIANT.name else EXPERIMENTS[name])]
    return list({(arm.name, seed): Job(arm, seed) for seed in range(seeds) for arm in arms}.values())


class ResultsFile:
    """What all turns so far came to, in memory and, with a file, in it."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.known: dict[tuple[str, int], tuple[Job, ExperimentResult | RunCheckpoints]] = {}
        for row in json.loads(file.read_text("utf-8")) if file and file.is_file() else []:
            turn = Job(TrainingVariant(**row["arm"]), row["seed"])
            self.known[turn.variant.name, turn.seed] = turn, _read(row)

    def has(self, turn: Job) -> bool:
        """Whether this was run before, as the arm now is."""
        return self.known.get((turn.variant.name, turn.seed), (None,))[0] == turn

    def add(self, turn: Job, came: ExperimentResult | RunCheckpoints) -> None:
        self.known[turn.variant.name, turn.seed] = turn, came
        if self.file:
            rows = [{"arm": turn.variant, "seed": turn.seed, "came": came} for turn, came in self.known.values()]
            write_atomic(self.file, json.dumps(rows, indent=1, default=dataclasses.asdict).encode())

    def of(self, arm: str, seeds: int) -> list[Any]:
        return [self.known[arm, seed][1] for seed in range(seeds)]


def run_all(wanted: list[Job], jobs: int, keep: Path | None, found: ResultsFile) -> None:
    """Run all that was not run before."""
    left = [turn for turn in wanted if not found.has(turn)]
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes to come, before they load torch
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(_run_job, turn, keep): turn for turn in left}
        for done in as_completed(running):
            turn, came = running[done], done.result()
            found.add(turn, came)
            said = (
                came.scores if isinstance(came, ExperimentResult) else f"{overfitting.regret(came):.1%} from the best"
            )
            click.echo(f"{len(found.known):>4}  {turn.variant.name}, seed {turn.seed}: {said}", err=True)


def _run_job(turn: Job, keep: Path | None) -> ExperimentResult | RunCheckpoints:
    with _job_folder(keep, turn.folder) as home:
        if turn.variant.name == VARIANT.name:
            return overfitting.run_overfitting(turn.seed, home)
        return experiments.run_variant(turn.variant, turn.seed, home)


@contextlib.contextmanager
def _job_folder(keep: Path | None, name: str) -> Iterator[Path]:
    """An empty folder for one run, gone afterwards unless it is to be kept."""
    if keep:
        yield keep / name
    else:
        with tempfile.TemporaryDirectory(prefix="prep-world-") as folder:
            yield Path(folder) / name


def _read(row: dict[str, Any]) -> ExperimentResult | RunCheckpoints:
    came = row["came"]
    if isinstance(came, list):
        return [
            CheckpointScores(**(one | {"shown": SampleScores(**one["shown"]), "halves": tuple(one["halves"])}))
            for one in came
        ]
    return ExperimentResult(
        **(came | {"base": came["base"] and SampleScores(**came["base"]), "trained": SampleScores(**came["trained"])})
    )
