"""Outliers: images whose loss is far above that of their subset, compared at equal timesteps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.parquet_rows import write_rows
from training.batch import TrainingImage
from training.evaluation.validation import LossReading

if TYPE_CHECKING:
    from numpy import ndarray

_BINS = 20  # bins of timesteps, with equally many losses each
_MIN_IMAGES = 5  # images of a subset below which none is an outlier
_MIN_DISTANCE = 3.5  # robust deviations above the median of an outlier (Iglewicz and Hoaglin, 1993)
_MIN_RATIO = 1.5  # smallest loss of an outlier, as a multiple of the median
_REPORTED = 5  # outliers reported


@dataclass(frozen=True, slots=True)
class Outlier:
    """An image's loss relative to those of its subset."""

    id: str
    name: str  # its file
    caption: str
    subset: str  # train, validation or reg
    samples: int  # number of its losses
    ratio: float  # mean of its losses, each divided by the subset's median at about the same timestep
    distance: float  # of the ratio's logarithm from the median, in robust deviations
    is_outlier: bool
    reason: str


@dataclass(frozen=True, slots=True)
class SubsetLosses:
    """All losses of a subset, one entry each."""

    ids: list[str]
    timesteps: ndarray
    losses: ndarray


def find_outliers(folder: Path, images: list[TrainingImage], readings: list[LossReading]) -> list[Outlier]:
    """Rank every image in outliers.parquet, and return the first few outliers.

    Training images are ranked by their losses during training, from samples_log.parquet, validation
    images by those of the last evaluation.
    """
    import numpy as np
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "samples_log.parquet", columns=["id", "reg", "timestep", "loss"])
    subsets = {
        "train": table.filter(pc.invert(table["reg"])),
        "reg": table.filter(table["reg"]),
    }
    columns = {
        name: SubsetLosses(part["id"].to_pylist(), part["timestep"].to_numpy(), part["loss"].to_numpy())
        for name, part in subsets.items()
    }
    held_out = [row for row in readings if row.subset == "validation"]
    columns["validation"] = SubsetLosses(
        [row.id for row in held_out],
        np.array([row.timestep for row in held_out], np.float64),
        np.array([row.loss for row in held_out], np.float64),
    )
    by_id = {image.id: image for image in images}
    ranked = [outlier for name, losses in columns.items() if losses.ids for outlier in rank(name, losses, by_id)]
    ranked.sort(key=lambda one: (-one.is_outlier, -one.ratio, one.id))
    write_rows(folder / "outliers.parquet", ranked, Outlier)
    return [one for one in ranked[:_REPORTED] if one.is_outlier]


def rank(subset: str, measured: SubsetLosses, images: dict[str, TrainingImage]) -> list[Outlier]:
    """The images of a subset with their distances from its median.

    Losses differ by orders of magnitude between timesteps, so each is divided by the median of those at
    about the same timestep before an image's are averaged.
    """
    import numpy as np

    ids, index = np.unique(np.array(measured.ids), return_inverse=True)
    counts = np.bincount(index)
    ratios = np.bincount(index, _relative_to_median(measured.timesteps, measured.losses)) / counts
    distances = _distances(ratios)
    ranked = []
    for k, id in enumerate(ids.tolist()):
        ratio, distance = float(ratios[k]), float(distances[k])
        is_outlier = len(ids) >= _MIN_IMAGES and ratio >= _MIN_RATIO and distance >= _MIN_DISTANCE
        ranked.append(
            Outlier(
                id=id,
                name=images[id].name,
                caption=images[id].caption,
                subset=subset,
                samples=int(counts[k]),
                ratio=ratio,
                distance=distance,
                is_outlier=is_outlier,
                reason=f"{ratio:.1f} times the median loss of its subset" if is_outlier else "",
            )
        )
    return ranked


def _relative_to_median(timesteps: ndarray, losses: ndarray) -> ndarray:
    """Each loss divided by the median of those at about the same timestep."""
    import numpy as np

    if len(np.unique(timesteps)) <= _BINS:
        bins = np.unique(timesteps, return_inverse=True)[1]
    else:
        bins = np.argsort(np.argsort(timesteps)) * _BINS // len(timesteps)
    medians = np.array([np.median(losses[bins == k]) for k in range(int(bins.max()) + 1)])
    ratios: ndarray = losses / np.maximum(medians[bins], np.finfo(np.float64).tiny)
    return ratios


def _distances(ratios: ndarray) -> ndarray:
    """How many robust deviations each ratio's logarithm is above the median; 0.6745 scales them to normal ones."""
    import numpy as np

    logs = np.log(np.maximum(ratios, np.finfo(np.float64).tiny))
    differences = logs - np.median(logs)
    # In a subset of equal images the smallest difference would be infinitely far.
    deviation = max(float(np.median(np.abs(differences))), 0.01)
    distances: ndarray = 0.6745 * differences / deviation
    return distances
