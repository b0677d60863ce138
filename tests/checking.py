"""Small sets for the tests of pipeline/checks: good ones, and what is found in them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.checks.check import check
from pipeline.checks.finding import Finding
from pipeline.checks.rule_context import TrainingTargets
from pipeline.history import HistoryStep, Model
from pipeline.manifest import Manifest, write_manifest
from pipeline.record import Record, Transform
from pipeline.vectors import PROVENANCE, VectorStore
from pipeline.workspace import Workspace
from tests.make import record, tag

TOKEN = "smthx"
DIMENSIONS = 64  # of made vectors
CLIP_KEY = "c" * 64
CLIP_STEPS = (
    HistoryStep("scan", 1, {}, "x"),
    HistoryStep("clip", 1, {}, "y", (Model(PROVENANCE, CLIP_KEY),)),
    HistoryStep("merge", 1, {}, "z"),
)


def good(number: int, **changes: object) -> Record:
    """An image that nothing is wrong with; its caption is its own."""
    return replace(record(number, subject=TOKEN, caption=f"{TOKEN}, hat, street {number}"), **changes)


def prior(number: int, **changes: object) -> Record:
    """A good regularization image."""
    made = replace(record(number, subject="", role="reg", caption=f"man, hill {number}"))
    return replace(made, **changes)


def written(folder: Path, records: list[Record], merge: dict[str, object] | None = None) -> Manifest:
    """The records as merge's manifest."""
    history = (HistoryStep("scan", 1, {}, "x"), HistoryStep("merge", 1, merge or {}, "y"))
    ordered = sorted(records, key=lambda one: one.id)
    return write_manifest(folder / "manifests" / "merge.parquet", [ordered], history)


def found(
    folder: Path, records: list[Record], aims: TrainingTargets | None = None, **merge: object
) -> dict[str, Finding]:
    """What check finds, by rule; a rule that says several things shows the last."""
    reported = check(written(folder, records, merge), Workspace(folder), aims)
    return {finding.rule: finding for finding in reported}


def copy(of: Record, k: int, **changes: object) -> Record:
    """A copy as augment makes it: other pixels and looks, the same root."""
    other = record(10_000 + k).image
    return replace(of, id=f"{of.id}-{k}", origin=of.id, image=other, transform=Transform("flip", flip=True), **changes)


def axis(number: int) -> np.ndarray:
    return np.eye(DIMENSIONS)[number]


def alongside(vector: np.ndarray, cosine: float, other: np.ndarray) -> np.ndarray:
    """A unit vector with this cosine to a unit vector, turned towards another one at a right angle to it."""
    return cosine * vector + math.sqrt(1 - cosine**2) * other


def around(count: int, cosine: float = 0.8) -> list[np.ndarray]:
    """Unit vectors of which any two have this cosine; they leave the last axes free."""
    return [alongside(axis(0), math.sqrt(cosine), axis(1 + n)) for n in range(count)]


def seen_by_clip(
    folder: Path, records: list[Record], vectors: list, steps: tuple[HistoryStep, ...] = CLIP_STEPS
) -> Manifest:
    """Merge's manifest of the records, whose images have these vectors in store, None for none."""
    store = VectorStore.of(Workspace(folder), CLIP_KEY)
    for one, vector in zip(records, vectors, strict=True):
        if vector is not None:
            store.put(one.image.pixel_sha256, vector)
    ordered = sorted(records, key=lambda one: one.id)
    return write_manifest(folder / "manifests" / "merge.parquet", [ordered], steps)


__all__ = ["TOKEN", "alongside", "around", "axis", "copy", "found", "good", "prior", "seen_by_clip", "tag", "written"]
