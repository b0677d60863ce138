"""A stage without images, for testing the machinery: it counts its work in files and can be slow or broken."""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from pipeline.errors import PrepError
from pipeline.record import Drop, Record
from pipeline.registry import StagePlan
from pipeline.run import update_stage
from pipeline.stage import Stage, Work, option
from pipeline.workspace import Workspace
from tests.make import LOCAL


@dataclass(frozen=True, kw_only=True)
class Toy(Stage):
    """Writes `word` as the caption; drops records whose id ends in 0; adds a copy to those that end in 1."""

    name: ClassVar[str] = "crop"
    records_per_batch: ClassVar[int] = 4

    word: str = option("hello", "What to write.")
    slow: float = option(0.0, "Seconds a batch.", cache_key=False)
    fail: str = option("", "Id at which to fail.", cache_key=False)

    def start(self, workspace: Workspace) -> Work:
        starts = workspace.root / "starts"
        with starts.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return functools.partial(toil, self, workspace.root / "worked")


def toil(toy: Toy, diary: Path, records: list[Record]) -> list[Record]:
    time.sleep(toy.slow)
    with diary.open("a") as file:
        file.write("".join(f"{record.id}\n" for record in records))
    if any(record.id == toy.fail for record in records):
        raise PrepError("The toy broke.", "Mend it.")
    made = []
    for record in records:
        if record.id.endswith("0"):
            made.append(replace(record, drop=Drop("crop", "ends in 0")))
            continue
        made.append(replace(record, caption=toy.word))
        if record.id.endswith("1"):
            made.append(replace(record, id=f"{record.id}-1", origin=record.id, caption=toy.word))
    return made


def run_toy(toy, source, home, settings=LOCAL):
    return update_stage(StagePlan("crop", (toy,)), source, home, settings)
