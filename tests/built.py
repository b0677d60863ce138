"""Workspaces whose dataset prep build wrote, and their exports."""

from __future__ import annotations

from pathlib import Path

from pipeline.commands.export import export
from pipeline.exchange.layouts import LAYOUTS
from pipeline.manifest import Manifest, write_manifest
from pipeline.record import Record
from pipeline.registry import StagePlan
from pipeline.run import update_stage
from pipeline.workspace import Workspace
from stages.build import Build
from tests.make import LOCAL, record, workspace


def merged_workspace(tmp_path: Path, records: list[Record]) -> tuple[Workspace, Manifest]:
    """A workspace with these records as merge leaves them; their images are files of a few bytes."""
    home = workspace(tmp_path / "smith")
    for r in records:
        path = home.path(r.image.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(r.id.encode())
    source = write_manifest(home.manifest("merge"), [sorted(records, key=lambda r: r.id)], ())
    return home, source


def build(home: Workspace, source: Manifest, **options: object):
    return update_stage(StagePlan("build", (Build(**options),)), source, home, LOCAL)


def built_workspace(tmp_path: Path, captions=("smith", "smith, hat"), **options: object) -> Workspace:
    """A workspace with a built dataset: one training image for each caption, and one regularization image."""
    records = [record(n, caption=caption) for n, caption in enumerate(captions)]
    records.append(record(100, subject="", role="reg", caption="man"))
    home, source = merged_workspace(tmp_path, records)
    build(home, source, near_duplicate_bits=0, **options)
    return home


def exported(home: Workspace, layout: str, target: Path):
    return export(home, LAYOUTS[layout], target, 2**28, lambda done, total: None)
