"""Images and captions that stand out: whose loss was far above that of their set, at whatever time of the noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.parquet_rows import write_rows
from training.batch import TrainingImage
from training.evaluation.validation import LossReading

if TYPE_CHECKING:
    from numpy import ndarray

_BINS = 20  # of the times, each with as many sights
_FEWEST = 5  # images of a set, from which on one can stand out
_FAR = 3.5  # deviations above the median from which on an image stands out (Iglewicz and Hoaglin, 1993)
_TIMES = 1.5  # and the least multiple of its set's loss
_MOST = 5  # images that are told of


@dataclass(frozen=True, slots=True)
class Outlier:
    """An image's loss beside those of its set."""

    id: str
    name: str  # its file
    caption: str
    set: str  # train, validation or reg
    samples: int  # times its loss was taken
    ratio: float  # mean of its losses, each divided by the set's median at about the same time
    distance: float  # of the ratio's logarithm from the set's median, in robust deviations
    is_outlier: bool
    reason: str


def find_outliers(folder: Path, samples: list[TrainingImage], readings: list[LossReading]) -> list[Outlier]:
    """Rank every image in outliers.parquet, and return the first few that stand out.

    Of the training images the losses that training itself found count, which samples_log.parquet holds,
    of the validation images those of the last evaluation.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    seen = pq.read_table(folder / "samples_log.parquet", columns=["id", "reg", "timestep", "loss"])
    sets = {
        "train": seen.filter(pc.invert(seen["reg"])),
        "reg": seen.filter(seen["reg"]),
    }
    columns = {name: (t["id"].to_pylist(), t["timestep"].to_numpy(), t["loss"].to_numpy()) for name, t in sets.items()}
    held = [row for row in readings if row.set == "validation"]
    columns["validation"] = ([r.id for r in held], _array([r.timestep for r in held]), _array([r.loss for r in held]))
    known = {sample.id: sample for sample in samples}
    found = [one for name, three in columns.items() if three[0] for one in rank(name, three, known)]
    found.sort(key=lambda one: (-one.is_outlier, -one.ratio, one.id))
    write_rows(folder / "outliers.parquet", found, Outlier)
    return [one for one in found[:_MOST] if one.is_outlier]


def rank(name: str, columns: tuple[list[str], ndarray, ndarray], known: dict[str, TrainingImage]) -> list[Outlier]:
    """The images of a set, from the ids, times and losses of all their sights.

    Losses fall with the noise by orders of magnitude, so each is divided by the median of those at
    about the same time before an image's are averaged.
    """
    import numpy as np

    ids, times, losses = columns
    names, at = np.unique(np.array(ids), return_inverse=True)
    counts = np.bincount(at)
    ratios = np.bincount(at, _standardised(times, losses)) / counts
    far = _distances(ratios)
    found = []
    for place, id in enumerate(names.tolist()):
        ratio, distance = float(ratios[place]), float(far[place])
        out = len(names) >= _FEWEST and ratio >= _TIMES and distance >= _FAR
        sample = known[id]
        reason = f"{ratio:.1f} times the median loss of its set" if out else ""
        found.append(Outlier(id, sample.name, sample.caption, name, int(counts[place]), ratio, distance, out, reason))
    return found


def _standardised(times: ndarray, losses: ndarray) -> ndarray:
    """Each loss divided by the median of those at about the same time."""
    import numpy as np

    few = len(np.unique(times)) <= _BINS
    bins = np.unique(times, return_inverse=True)[1] if few else np.argsort(np.argsort(times)) * _BINS // len(times)
    medians = np.array([np.median(losses[bins == k]) for k in range(int(bins.max()) + 1)])
    whole: ndarray = losses / np.maximum(medians[bins], np.finfo(np.float64).tiny)
    return whole


def _distances(ratios: ndarray) -> ndarray:
    """How many robust deviations each ratio's logarithm lies above the median; 0.6745 makes them normal ones."""
    import numpy as np

    logs = np.log(np.maximum(ratios, np.finfo(np.float64).tiny))
    off = logs - np.median(logs)
    # Sets whose images are all alike would make the least difference infinitely far.
    spread = max(float(np.median(np.abs(off))), 0.01)
    whole: ndarray = 0.6745 * off / spread
    return whole


def _array(values: list[float]) -> Any:
    import numpy as np

    return np.array(values, np.float64)
