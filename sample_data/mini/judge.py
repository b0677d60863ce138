"""What the mini-tagger finds in images, through prep's own WD14 reader, and how well that agrees with the truth."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.workspace import Workspace
from sample_data.mini.scenes import NAMES
from sample_data.world.tags import TAGS
from taggers.danbooru.wd14 import Wd14

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

MODELS = Path(__file__).resolve().parent.parent / "models"
TAGGER, PAINTER = MODELS / "mini-tagger", MODELS / "mini-diffusion"
THRESHOLD = 0.5
JUDGED = [at for at, tag in enumerate(TAGS) if tag.category != "rating"]  # every image has the one rating


def scores(images: Iterable[np.ndarray], folder: Path = TAGGER) -> np.ndarray:
    """The tagger's score of every tag (N, len(TAGS)) in images (H, W, 3) uint8 of any size."""
    import numpy as np

    with tempfile.TemporaryDirectory() as home:
        look = Wd14(model=str(folder.resolve()), min_score=0.0, device="cpu").load(Workspace(Path(home)))
        said = look(list(images))
    column = {name.replace(" ", "_"): at for at, name in enumerate(NAMES)}
    table = np.zeros((len(said), len(NAMES)))
    for row, words in enumerate(said):
        for annotation in words:
            table[row, column[annotation.text]] = annotation.score
    return table


def f1(table: np.ndarray, truth: np.ndarray, threshold: float = THRESHOLD) -> dict[str, float]:
    """Each judged tag's harmonic mean of precision and recall, 2 tp / (2 tp + fp + fn); tags nowhere true are left out.

    `table` (N, T) are scores, `truth` (N, T) is bool.
    """
    found = table >= threshold
    counted = {}
    for at in JUDGED:
        if truth[:, at].any():
            both = (found[:, at] & truth[:, at]).sum()
            counted[NAMES[at]] = float(2 * both / (found[:, at].sum() + truth[:, at].sum()))
    return counted


def macro(each: dict[str, float]) -> float:
    """The plain mean over tags, rare ones counting as much as common ones."""
    return sum(each.values()) / len(each)


def best_threshold(table: np.ndarray, truth: np.ndarray) -> float:
    """The one threshold for all tags, in steps of a twentieth, with the best macro F1."""
    return max((step / 20 for step in range(1, 20)), key=lambda threshold: macro(f1(table, truth, threshold)))


def share_found(table: np.ndarray, wanted: np.ndarray, threshold: float = THRESHOLD) -> float:
    """Of all wanted tags (N, T) bool, how many the tagger finds in the image of the same row."""
    asked = wanted[:, JUDGED]
    return float(((table[:, JUDGED] >= threshold) & asked).sum() / asked.sum())


def shares_by_tag(table: np.ndarray, wanted: np.ndarray, threshold: float = THRESHOLD) -> dict[str, float]:
    """The same for each tag that is wanted at all."""
    return {NAMES[at]: float((table[wanted[:, at], at] >= threshold).mean()) for at in JUDGED if wanted[:, at].any()}
