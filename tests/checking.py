"""Small sets for the tests of pipeline/checks: good ones, and what is found in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pipeline.checks.check import check
from pipeline.checks.facts import Aims
from pipeline.checks.finding import Finding
from pipeline.manifest import Manifest, write_manifest
from pipeline.record import Record, Transform
from pipeline.stage import Step
from pipeline.workspace import Workspace
from tests.make import record, tag

TOKEN = "smthx"


def good(number: int, **changes: object) -> Record:
    """A picture that nothing is wrong with; its caption is its own."""
    return replace(record(number, subject=TOKEN, caption=f"{TOKEN}, hat, street {number}"), **changes)


def prior(number: int, **changes: object) -> Record:
    """A good regularization picture."""
    made = replace(record(number, subject="", role="reg", caption=f"man, hill {number}"))
    return replace(made, **changes)


def written(folder: Path, records: list[Record], merge: dict[str, object] | None = None) -> Manifest:
    """The records as merge's manifest."""
    history = (Step("scan", 1, {}, "x"), Step("merge", 1, merge or {}, "y"))
    ordered = sorted(records, key=lambda one: one.id)
    return write_manifest(folder / "manifests" / "merge.parquet", [ordered], history)


def found(folder: Path, records: list[Record], aims: Aims | None = None, **merge: object) -> dict[str, Finding]:
    """What check finds, by rule; a rule that says several things shows the last."""
    told = check(written(folder, records, merge), Workspace(folder), aims)
    return {finding.rule: finding for finding in told}


def copy(of: Record, k: int, **changes: object) -> Record:
    """A copy as augment makes it: other pixels and looks, the same root."""
    other = record(10_000 + k).picture
    return replace(
        of, id=f"{of.id}-{k}", origin=of.id, picture=other, transform=Transform("mirror", mirror=True), **changes
    )


__all__ = ["TOKEN", "copy", "found", "good", "prior", "tag", "written"]
