"""Measures sharpness and background of images that no tagger measured; caches the measures by pixel content."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.checks.caption_pages import read_columns
from pipeline.checks.dataset_arrays import DatasetArrays, background_tag
from pipeline.imaging.image_file import load_rgb
from pipeline.manifest import Manifest
from pipeline.parquet_rows import read_rows, write_rows
from pipeline.stage import ProgressFn
from pipeline.workspace import Workspace
from taggers.basic import background_tags, color_table, measured_image, sharpness_tags

if TYPE_CHECKING:
    import numpy as np

_BATCH = 64  # images in work
_SAVE_EVERY = 2_000  # images; a crash loses at most the measures of these


@dataclass(frozen=True, slots=True)
class ImageMeasure:
    """The measures of one image."""

    sharpness: float | None  # 0 to 1; None for an image without contrast
    background: str = ""  # such as 'white background'; empty unless it is plain


@dataclass(frozen=True, slots=True)
class CachedMeasure:
    """An image's measures as a row of the cache."""

    pixel_sha256: str
    sharpness: float | None
    background: str


def measure_missing(
    arrays: DatasetArrays, manifest: Manifest, workspace: Workspace, report: ProgressFn
) -> DatasetArrays:
    """The arrays with the measures of all images that had none, except those that cannot be opened."""
    import numpy as np

    unknown = np.isnan(arrays.sharpness)
    if not unknown.any():
        return arrays
    known = _read_cache(_cache_file(workspace))
    places = read_columns(manifest, arrays.rows[unknown], ("image.path", "image.pixel_sha256"))
    missing = {pixels: path for path, pixels in places if pixels not in known}
    for done, (pixels, measure) in enumerate(_measured(missing, workspace), 1):
        known[pixels] = measure
        report(done, len(missing))
        if done % _SAVE_EVERY == 0:
            _write_cache(_cache_file(workspace), known)
    if missing:
        _write_cache(_cache_file(workspace), known)
    measures = [known.get(pixels, ImageMeasure(None)) for _, pixels in places]
    sharp, scenes = arrays.sharpness.copy(), Counter(arrays.backgrounds)
    sharp[unknown] = [np.nan if one.sharpness is None else one.sharpness for one in measures]
    tagged = {subject for subject, _ in arrays.backgrounds}  # subjects whose backgrounds a tagger named
    scenes.update(
        (int(subject), one.background)
        for subject, one in zip(arrays.subject[unknown], measures, strict=True)
        if one.background and int(subject) not in tagged
    )
    return replace(arrays, sharpness=sharp, backgrounds=dict(scenes))


def measure(rgb: np.ndarray, table: np.ndarray) -> ImageMeasure:
    """The measures of one H x W x 3 uint8 RGB image, as the basic tagger takes them."""
    views = measured_image(rgb, table)
    sharp = next((found.score for found in sharpness_tags(views) if found.text == "sharpness"), None)
    return ImageMeasure(sharp, next(filter(None, (background_tag(found.text) for found in background_tags(views))), ""))


def _measured(missing: dict[str, str], workspace: Workspace) -> Iterator[tuple[str, ImageMeasure]]:
    """The measures of each image that can be opened."""
    table, waiting = color_table(), iter(missing.items())

    def work(entry: tuple[str, str]) -> tuple[str, ImageMeasure] | None:
        try:
            return entry[0], measure(load_rgb(workspace.path(entry[1])), table)
        except OSError:  # missing or damaged: another rule reports it
            return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while batch := list(itertools.islice(waiting, _BATCH)):
            yield from filter(None, pool.map(work, batch))


def _cache_file(workspace: Workspace) -> Path:
    return workspace.cache / "measures.parquet"


def _read_cache(path: Path) -> dict[str, ImageMeasure]:
    """The measures of earlier checks; none if the cache cannot be read."""
    import pyarrow as pa

    try:
        rows = read_rows(path, CachedMeasure)
    except (OSError, pa.ArrowException):
        return {}
    return {row.pixel_sha256: ImageMeasure(row.sharpness, row.background) for row in rows}


def _write_cache(path: Path, known: dict[str, ImageMeasure]) -> None:
    write_rows(path, [CachedMeasure(key, one.sharpness, one.background) for key, one in known.items()], CachedMeasure)
