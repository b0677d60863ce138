"""prep rebuild: makes the same images and captions again from a manifest and its source images, without any model."""

from __future__ import annotations

import importlib.metadata
import itertools
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from pipeline.errors import PrepError
from pipeline.imaging.image_file import UnreadableImage, encode_png, pixel_hash, render, transform
from pipeline.manifest import Manifest
from pipeline.record import Record
from pipeline.registry import read_recipe
from pipeline.sources import scan
from pipeline.stage import ProgressFn
from pipeline.workspace import Workspace, file_sha256, write_atomic
from stages.building.layout import encode_caption

ReplayState = Literal["same", "same pixels, other bytes", "other pixels", "source missing", "source changed"]


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The result for one image."""

    record: Record
    state: ReplayState
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Replay:
    """A manifest to replay, where to find its sources, and where to write."""

    manifest: Manifest
    sources: dict[str, Path]  # by sha256; empty: at the paths in the manifest
    names: frozenset[str]  # of all files searched, to distinguish a changed source from a missing one
    home: Workspace  # which the manifest's paths are relative to
    present: dict[str, Path]  # where the workspace's images are now, by sha256
    target: Workspace

    @classmethod
    def prepare(cls, path: Path, target: Path, folders: list[Path]) -> Replay:
        """Read the manifest and index the folders; PrepError if the target is not empty."""
        manifest = Manifest.read(path)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise PrepError(f"{target} is not empty.", "Name a folder that does not exist yet: nothing is overwritten.")
        files = [file for folder in folders for file in sorted(_folder(folder).rglob("*")) if file.is_file()]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            sources = dict(zip(pool.map(file_sha256, files), files, strict=True))
        home = Workspace(path.resolve().parent.parent)
        present = {} if folders else _present_sources(home)
        names = frozenset(file.name for file in files)
        return cls(manifest, sources, names, home, present, Workspace(target.resolve()))

    def run(self, report: ProgressFn) -> Iterator[ReplayResult]:
        """Replay every kept image; yields the results in order of ids."""
        groups = (list(group) for _, group in itertools.groupby(self._images(), key=lambda r: r.sha256))
        done, total = 0, self.manifest.counts.images
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            while window := list(itertools.islice(groups, 64)):
                for results in pool.map(self._replay, window):
                    yield from results
                    done += len(results)
                    report(done, total)

    def _images(self) -> Iterator[Record]:
        records = (record for record in self.manifest.records() if record.kept)
        for record in records:
            if record.image is None or record.crop is None:
                raise PrepError(
                    f"{self.manifest.path} has no images yet.", "Rebuild from manifests/crop.parquet or a later one."
                )
            yield record

    def _replay(self, records: list[Record]) -> list[ReplayResult]:
        """All images made from one source, which is read once."""
        import hashlib

        source = self._find(records[0])
        try:
            data = source.read_bytes() if source else b""
        except OSError:
            data = b""
        if hashlib.sha256(data).hexdigest() != records[0].sha256:
            changed = source.is_file() if source else PurePosixPath(records[0].source).name in self.names
            state: ReplayState = "source changed" if changed else "source missing"
            return [ReplayResult(record, state, record.source) for record in records]
        return [self._make(record, data) for record in records]

    def _find(self, record: Record) -> Path | None:
        if self.sources or self.names:
            return self.sources.get(record.sha256)
        recorded = self.home.source(record.source)
        return recorded if recorded.is_file() else self.present.get(record.sha256, recorded)

    def _make(self, record: Record, data: bytes) -> ReplayResult:
        import hashlib

        assert record.crop is not None and record.image is not None
        try:
            rgb = render(data, record.crop)
        except UnreadableImage as error:
            return ReplayResult(record, "other pixels", f"{record.source}: {error.reason}")
        if record.transform is not None:
            rgb = transform(rgb, record.transform)
        png = encode_png(rgb)
        path = self.target.path(record.dataset_path or record.image.path)
        write_atomic(path, png)
        if record.dataset_path:
            write_atomic(path.with_suffix(self._extension), encode_caption(record.caption))
        if hashlib.sha256(png).hexdigest() == record.image.file_sha256:
            return ReplayResult(record, "same")
        same = pixel_hash(rgb) == record.image.pixel_sha256
        return ReplayResult(record, "same pixels, other bytes" if same else "other pixels", record.source)

    @property
    def _extension(self) -> str:
        steps = [step for step in self.manifest.history if step.stage == "build"]
        return str(steps[-1].params["caption_extension"])


def _present_sources(home: Workspace) -> dict[str, Path]:
    """Where the images of a workspace are now, by content; none outside of a workspace, or without their folders."""
    if not home.recipe.is_file():
        return {}
    try:
        found = scan(home, read_recipe(home), lambda done, total: None)
    except PrepError:
        return {}
    return {record.sha256: home.source(record.source) for record in found.records}


def other_libraries(manifest: Manifest) -> list[str]:
    """'pillow 13.0.0, here 13.1.0' for each library of another version than when the images were made."""
    made = {name: version for step in manifest.history for name, version in step.libraries.items()}
    return [f"{name} {was}, here {now}" for name, was in sorted(made.items()) if (now := _version(name)) != was]


def by_state(results: Iterable[ReplayResult]) -> dict[ReplayState, list[ReplayResult]]:
    """Results by state."""
    table: dict[ReplayState, list[ReplayResult]] = {}
    for result in results:
        table.setdefault(result.state, []).append(result)
    return table


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise PrepError(f"The folder {folder} does not exist.", "Name the folder that holds the source images.")
    return folder
