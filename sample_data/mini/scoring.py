"""Scores of the mini-tagger on images, read by prep's own WD14 tagger, and metrics against the true tags."""

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
TAGGER, DIFFUSION = MODELS / "mini-tagger", MODELS / "mini-diffusion"
THRESHOLD = 0.5
SCORED_TAGS = [at for at, tag in enumerate(TAGS) if tag.category != "rating"]  # every image has the same rating


def tag_scores(images: Iterable[np.ndarray], folder: Path = TAGGER) -> np.ndarray:
    """Scores (N, len(TAGS)) of every tag in images (H, W, 3) uint8 of any size."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder_name:
        predict = Wd14(model=str(folder.resolve()), min_score=0.0, device="cpu").load(Workspace(Path(folder_name)))
        annotations = predict(list(images))
    column = {name.replace(" ", "_"): at for at, name in enumerate(NAMES)}
    table = np.zeros((len(annotations), len(NAMES)))
    for row, image_annotations in enumerate(annotations):
        for annotation in image_annotations:
            table[row, column[annotation.text]] = annotation.score
    return table


def f1_by_tag(table: np.ndarray, truth: np.ndarray, threshold: float = THRESHOLD) -> dict[str, float]:
    """F1 of each scored tag, 2 tp / (2 tp + fp + fn); tags that no image has are left out.

    `table` (N, T) are scores, `truth` (N, T) is bool.
    """
    found = table >= threshold
    scores = {}
    for at in SCORED_TAGS:
        if truth[:, at].any():
            true_positives = (found[:, at] & truth[:, at]).sum()
            scores[NAMES[at]] = float(2 * true_positives / (found[:, at].sum() + truth[:, at].sum()))
    return scores


def macro_f1(each: dict[str, float]) -> float:
    """Macro F1: the unweighted mean over tags."""
    return sum(each.values()) / len(each)


def best_threshold(table: np.ndarray, truth: np.ndarray) -> float:
    """The threshold with the best macro F1, the same for all tags, in steps of 0.05."""
    return max((step / 20 for step in range(1, 20)), key=lambda threshold: macro_f1(f1_by_tag(table, truth, threshold)))


def recall(table: np.ndarray, prompted: np.ndarray, threshold: float = THRESHOLD) -> float:
    """The share of the prompted tags (N, T) bool that the tagger finds in the image of the same row."""
    scored = prompted[:, SCORED_TAGS]
    return float(((table[:, SCORED_TAGS] >= threshold) & scored).sum() / scored.sum())


def recall_by_tag(table: np.ndarray, prompted: np.ndarray, threshold: float = THRESHOLD) -> dict[str, float]:
    """`recall` of each tag that is prompted at all."""
    return {
        NAMES[at]: float((table[prompted[:, at], at] >= threshold).mean())
        for at in SCORED_TAGS
        if prompted[:, at].any()
    }
