"""Brings the paths of the user's images in all manifests up to date after their folders, or the workspace, moved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pipeline.manifest import Manifest, read_if_valid, write_manifest
from pipeline.record import Record, root_of
from pipeline.sources import SourceScan
from pipeline.workspace import Workspace


def follow_moved_folders(workspace: Workspace, found: SourceScan) -> None:
    """Write the present paths into every manifest of the images that a scan found, if any path there is another one.

    Nothing becomes stale: paths are not part of a manifest's digest. The manifest of the sources is written last, so
    that after an interruption the next call completes the work.
    """
    sources = read_if_valid(workspace.manifest("sources"))
    present = {record.id: record.source for record in found.records}
    if sources is None or not _is_elsewhere(sources, present):
        return
    others = [path for path in sorted(sources.path.parent.glob("*.parquet")) if path != sources.path]
    for path in (*others, sources.path):
        manifest = read_if_valid(path)
        if manifest is not None and manifest.history[:1] and manifest.history[0].key == sources.history[0].key:
            _rewrite(manifest, present, found.folders)


def _is_elsewhere(sources: Manifest, present: dict[str, str]) -> bool:
    table = sources.table(["id", "source"])
    pairs = zip(table.column("id").to_pylist(), table.column("source").to_pylist(), strict=True)
    return any(present.get(id, source) != source for id, source in pairs)


def _rewrite(manifest: Manifest, present: dict[str, str], folders: dict[str, str]) -> None:
    scanned = replace(manifest.history[0], folders=folders)
    write_manifest(manifest.path, _moved(manifest, present), (scanned, *manifest.history[1:]), same_as=manifest)


def _moved(manifest: Manifest, present: dict[str, str]) -> Iterator[list[Record]]:
    """The records with the present paths of their images; copies and parts of an image have its path."""
    for batch in manifest.batches():
        yield [replace(r, source=present.get(r.id) or present.get(root_of(r.id)) or r.source) for r in batch]
