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
from benchmarks.arms import EXPERIMENTS, Arm
from benchmarks.experiments import Outcome
from benchmarks.judge import Verdict
from benchmarks.overfitting import LONG, Checkpoint
from pipeline.workspace import write_atomic

Course = list[Checkpoint]


@dataclass(frozen=True, slots=True)
class Turn:
    """An arm with a seed; that of overfitting is judged at every checkpoint."""

    arm: Arm
    seed: int

    @property
    def folder(self) -> str:
        return f"{self.arm.name}-{self.seed}".replace(" ", "-").replace("'", "")


def turns(names: list[str], seeds: int) -> list[Turn]:
    """What is to be run for these experiments, each arm once a seed even if several experiments have it."""
    arms = [arm for name in names for arm in ([LONG] if name == LONG.name else EXPERIMENTS[name])]
    return list({(arm.name, seed): Turn(arm, seed) for seed in range(seeds) for arm in arms}.values())


class Found:
    """What all turns so far came to, in memory and, with a file, in it."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.known: dict[tuple[str, int], tuple[Turn, Outcome | Course]] = {}
        for row in json.loads(file.read_text("utf-8")) if file and file.is_file() else []:
            turn = Turn(Arm(**row["arm"]), row["seed"])
            self.known[turn.arm.name, turn.seed] = turn, _read(row)

    def has(self, turn: Turn) -> bool:
        """Whether this was run before, as the arm now is."""
        return self.known.get((turn.arm.name, turn.seed), (None,))[0] == turn

    def add(self, turn: Turn, came: Outcome | Course) -> None:
        self.known[turn.arm.name, turn.seed] = turn, came
        if self.file:
            rows = [{"arm": turn.arm, "seed": turn.seed, "came": came} for turn, came in self.known.values()]
            write_atomic(self.file, json.dumps(rows, indent=1, default=dataclasses.asdict).encode())

    def of(self, arm: str, seeds: int) -> list[Any]:
        return [self.known[arm, seed][1] for seed in range(seeds)]


def run_all(wanted: list[Turn], jobs: int, keep: Path | None, found: Found) -> None:
    """Run all that was not run before."""
    left = [turn for turn in wanted if not found.has(turn)]
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes to come, before they load torch
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(_take, turn, keep): turn for turn in left}
        for done in as_completed(running):
            turn, came = running[done], done.result()
            found.add(turn, came)
            said = came.trained if isinstance(came, Outcome) else f"{overfitting.regret(came):.1%} from the best"
            click.echo(f"{len(found.known):>4}  {turn.arm.name}, seed {turn.seed}: {said}", err=True)


def _take(turn: Turn, keep: Path | None) -> Outcome | Course:
    with _place(keep, turn.folder) as home:
        if turn.arm.name == LONG.name:
            return overfitting.run(turn.seed, home)
        return experiments.run(turn.arm, turn.seed, home)


@contextlib.contextmanager
def _place(keep: Path | None, name: str) -> Iterator[Path]:
    """An empty folder for one run, gone afterwards unless it is to be kept."""
    if keep:
        yield keep / name
    else:
        with tempfile.TemporaryDirectory(prefix="prep-world-") as folder:
            yield Path(folder) / name


def _read(row: dict[str, Any]) -> Outcome | Course:
    came = row["came"]
    if isinstance(came, list):
        return [
            Checkpoint(**(one | {"shown": Verdict(**one["shown"]), "halves": tuple(one["halves"])})) for one in came
        ]
    return Outcome(**(came | {"base": came["base"] and Verdict(**came["base"]), "trained": Verdict(**came["trained"])}))
