"""prep report: a set as one HTML page, or as numbers for machines."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pipeline.errors import PrepError
from pipeline.html.document import check_overwrite, write_page
from pipeline.manifest import Manifest
from pipeline.registry import ORDER
from pipeline.report.facts import ReportData
from pipeline.report.gallery import gather
from pipeline.report.measure import Measured, measure
from pipeline.report.page import MADE_BY, page
from pipeline.stage import ProgressFn
from pipeline.workspace import Workspace

MOST = 300  # images of the contact sheet: a page of some 5 MB


def latest(workspace: Workspace, stage: str | None) -> Manifest:
    """The manifest of a stage, or of the last one that has run; PrepError when it has not."""
    done = [name for name in ORDER if workspace.manifest(name).is_file()]
    if not done or (stage and stage not in done):
        raise PrepError(f"{stage or 'No stage'} has not run yet.", f"First: prep {stage or 'run'}")
    return Manifest.read(workspace.manifest(stage or done[-1]))


def write(manifest: Manifest, workspace: Workspace, path: Path, most: int, report: ProgressFn) -> Measured:
    """Measure the set and write its page with at most `most` images on the contact sheet."""
    check_overwrite(path, MADE_BY)
    measured = measure(manifest, workspace, report)
    write_page(path, page(measured.facts, gather(manifest, workspace, measured, most, report)))
    return measured


def plain(facts: ReportData) -> dict[str, Any]:
    """The facts as JSON values; steps with their keys."""
    history = [dataclasses.asdict(step) | {"key": step.key} for step in facts.history]
    return dataclasses.asdict(facts) | {"history": history}
