"""Run training variants in parallel processes, and keep their results in a file.

Jobs are ordered by seed, so that an interrupted run has compared all variants with some seeds. Each result is written
at once; the next run with the same file continues from there.
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
from benchmarks.experiments import ExperimentResult
from benchmarks.overfitting import VARIANT, CheckpointScores
from benchmarks.sample_scores import SampleScores
from benchmarks.training_variants import EXPERIMENTS, TrainingVariant
from pipeline.workspace import write_atomic

RunCheckpoints = list[CheckpointScores]


@dataclass(frozen=True, slots=True)
class Job:
    """A variant with a seed; overfitting's is scored at every checkpoint."""

    variant: TrainingVariant
    seed: int

    @property
    def folder(self) -> str:
        return f"{self.variant.name}-{self.seed}".replace(" ", "-").replace("'", "")


def list_jobs(names: list[str], seeds: int) -> list[Job]:
    """The jobs of these experiments; a variant of several experiments is run once per seed."""
    variants = [variant for name in names for variant in ([VARIANT] if name == VARIANT.name else EXPERIMENTS[name])]
    return list({(variant.name, seed): Job(variant, seed) for seed in range(seeds) for variant in variants}.values())


class ResultsFile:
    """The results of all jobs so far, in memory and in a file if there is one."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.known: dict[tuple[str, int], tuple[Job, ExperimentResult | RunCheckpoints]] = {}
        for row in json.loads(file.read_text("utf-8")) if file and file.is_file() else []:
            job = Job(TrainingVariant(**row["variant"]), row["seed"])
            self.known[job.variant.name, job.seed] = job, _read(row)

    def has(self, job: Job) -> bool:
        """Whether this job was run before, with the variant as it is now."""
        return self.known.get((job.variant.name, job.seed), (None,))[0] == job

    def add(self, job: Job, result: ExperimentResult | RunCheckpoints) -> None:
        self.known[job.variant.name, job.seed] = job, result
        if self.file:
            rows = [{"variant": job.variant, "seed": job.seed, "result": result} for job, result in self.known.values()]
            write_atomic(self.file, json.dumps(rows, indent=1, default=dataclasses.asdict).encode())

    def of(self, variant: str, seeds: int) -> list[Any]:
        return [self.known[variant, seed][1] for seed in range(seeds)]


def run_all(job_list: list[Job], jobs: int, keep: Path | None, results: ResultsFile) -> None:
    """Run all jobs that have no result yet."""
    pending = [job for job in job_list if not results.has(job)]
    os.environ["OMP_NUM_THREADS"] = "1"  # for the worker processes, before they import torch
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(_run_job, job, keep): job for job in pending}
        for done in as_completed(running):
            job, result = running[done], done.result()
            results.add(job, result)
            is_experiment = isinstance(result, ExperimentResult)
            summary = result.scores if is_experiment else f"{overfitting.regret(result):.1%} below the best"
            click.echo(f"{len(results.known):>4}  {job.variant.name}, seed {job.seed}: {summary}", err=True)


def _run_job(job: Job, keep: Path | None) -> ExperimentResult | RunCheckpoints:
    with _job_folder(keep, job.folder) as home:
        if job.variant.name == VARIANT.name:
            return overfitting.run_overfitting(job.seed, home)
        return experiments.run_variant(job.variant, job.seed, home)


@contextlib.contextmanager
def _job_folder(keep: Path | None, name: str) -> Iterator[Path]:
    """An empty folder for one job, deleted afterwards unless it is to be kept."""
    if keep:
        yield keep / name
    else:
        with tempfile.TemporaryDirectory(prefix="prep-world-") as folder:
            yield Path(folder) / name


def _read(row: dict[str, Any]) -> ExperimentResult | RunCheckpoints:
    result = row["result"]
    if isinstance(result, list):
        return [
            CheckpointScores(**(one | {"scores": SampleScores(**one["scores"]), "halves": tuple(one["halves"])}))
            for one in result
        ]
    base_scores = result["base_scores"] and SampleScores(**result["base_scores"])
    return ExperimentResult(**(result | {"base_scores": base_scores, "scores": SampleScores(**result["scores"])}))
