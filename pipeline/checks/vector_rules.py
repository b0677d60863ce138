"""Rules about CLIP embeddings of each subject's images: one scene several times, outliers, captions that fit badly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.checks.array_ops import first_index, is_in
from pipeline.checks.caption_pages import read_columns
from pipeline.checks.dataset_arrays import DatasetArrays
from pipeline.checks.finding import RawFinding
from pipeline.manifest import Manifest
from pipeline.tag_text import escape_control
from pipeline.vectors import (
    VectorStore,
    caption_key,
    clip_score,
    deviations,
    knn_outlier_score,
    near_groups,
    pairwise_spread,
)
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

# Cosine from which two images of a subject are taken for one scene: fastdup's threshold for near-duplicates.
ALIKE = 0.98
# Models differ in the cosine of any two images, so limits also depend on the spread of a subject's images.
CLOSER = 4  # images of one scene are also this many times as close as far pairs
FARTHER = 8  # an outlier is farther out than the median by at least the distance of far pairs over this
CLEAR = 0.01  # and by at least this much cosine; recompressing an image may change it by less
ODD = 3.5  # robust standard deviations of an outlier (Iglewicz and Hoaglin, 1993)
ENOUGH = 8  # images below which none is called an outlier
MOST = 20_000  # images of a subject that are compared: all pairs take about 11 s on one core


@dataclass(frozen=True, slots=True)
class SubjectVectors:
    """One subject's images that have a stored vector, one per source; an entry each in every array."""

    subject: int  # its number in DatasetArrays.subjects
    sources: int  # of all its images, with or without a vector
    spread: float  # 1 - cosine of its far pairs, as pipeline.vectors.pairwise_spread
    indices: np.ndarray  # int64: their entries in DatasetArrays
    scene: np.ndarray  # int64: images of one scene share a number
    outlier_score: np.ndarray  # float32: as pipeline.vectors.knn_outlier_score
    clip_scores: np.ndarray  # float32: how well each caption fits; NaN where the caption has no vector

    def coverage(self, arrays: DatasetArrays) -> str:
        """'22 of 24 images of zmith': how many were compared."""
        who = escape_control(arrays.subjects[self.subject]) or "the dataset"
        return f"{len(self.indices):,} of {self.sources:,} images of {who}"


def apply_vector_rules(arrays: DatasetArrays, manifest: Manifest, workspace: Workspace) -> Iterator[RawFinding]:
    """The findings of all rules about vectors; none without vectors. No model is loaded."""
    for vectors in load_vectors(arrays, manifest, workspace):
        for rule in RULES:
            yield from rule(arrays, vectors)


def load_vectors(arrays: DatasetArrays, manifest: Manifest, workspace: Workspace) -> Iterator[SubjectVectors]:
    """The stored vectors of each subject's images, as the manifest's history names them."""
    import numpy as np

    store = VectorStore.recorded(workspace, manifest.history)
    if store is None or not store.folder.is_dir():
        return
    chosen = [(subject, *_one_per_source(arrays, subject)) for subject in range(len(arrays.subjects))]
    wanted = np.sort(np.concatenate([indices for _, indices, _ in chosen]))
    columns = read_columns(manifest, arrays.rows[wanted], ("image.pixel_sha256", "caption"))
    by_index = dict(zip(wanted.tolist(), columns, strict=True))
    for subject, indices, sources in chosen:
        rows, known = store.gather([by_index[index][0] for index in indices.tolist()])
        if len(known):
            indices = indices[known]
            spread = pairwise_spread(rows)
            scenes = near_groups(rows, max(ALIKE, 1 - spread / CLOSER))
            scores = _clip_scores(store, rows, [by_index[index][1] for index in indices.tolist()])
            yield SubjectVectors(subject, sources, spread, indices, scenes, knn_outlier_score(rows), scores)


def outliers(values: np.ndarray, clear: float) -> np.ndarray:
    """Which values are more than ODD robust deviations, and `clear`, above the median; none of fewer than ENOUGH."""
    import numpy as np

    if len(values) < ENOUGH:
        return np.zeros(len(values), bool)
    return np.asarray((deviations(values) > ODD) & (values - np.median(values) > clear))


def hidden_scenes(arrays: DatasetArrays, vectors: SubjectVectors) -> np.ndarray:
    """Which images show the scene of another image that is no near-duplicate by perceptual hash."""
    import numpy as np

    kinds = np.unique(np.stack([vectors.scene, arrays.duplicate_group[vectors.indices]]), axis=1)[0]
    return np.asarray(np.bincount(kinds, minlength=len(vectors.scene))[vectors.scene] > 1)


def sorted_outliers(vectors: SubjectVectors) -> np.ndarray:
    """The outliers among a subject's images as indices into `vectors`, the farthest first."""
    import numpy as np

    found = np.flatnonzero(outliers(vectors.outlier_score, max(CLEAR, vectors.spread / FARTHER)))
    return found[np.argsort(-vectors.outlier_score[found], kind="stable")]


def same_scene(arrays: DatasetArrays, vectors: SubjectVectors) -> Iterator[RawFinding]:
    """Images of one scene that are no near-duplicates by hash: in two roles, or in one."""
    import numpy as np

    hidden, role = hidden_scenes(arrays, vectors), arrays.role[vectors.indices]
    kinds = np.unique(np.stack([vectors.scene, role]), axis=1)[0]
    across = hidden & (np.bincount(kinds, minlength=len(role))[vectors.scene] > 1)
    compared = f"{vectors.coverage(arrays)} compared by CLIP"
    see = "See them side by side: prep report"
    yield RawFinding(
        "warning",
        "same scene in two sets",
        f"An image in the training set and one in the validation set show the same scene; {compared}.",
        f"{see}; leave one out: prep edit NAME --drop",
        arrays.rows[vectors.indices[across]],
    )
    yield RawFinding(
        "note",
        "same scene",
        f"Images show the same scene, which is trained on several times; {compared}.",
        f"{see}; leave out all but the best: prep edit NAME --drop",
        arrays.rows[vectors.indices[hidden & ~across]],
    )


def image_outliers(arrays: DatasetArrays, vectors: SubjectVectors) -> Iterator[RawFinding]:
    """Outliers among the images of a subject, the farthest first."""
    yield RawFinding(
        "note",
        "outlier",
        f"The image is an outlier among those of its subject; {vectors.coverage(arrays)} compared by CLIP.",
        "If it does not show the subject, leave it out: prep edit NAME --drop",
        arrays.rows[vectors.indices[sorted_outliers(vectors)]],
    )


def poor_captions(arrays: DatasetArrays, vectors: SubjectVectors) -> Iterator[RawFinding]:
    """Captions that fit their images much worse than others do, the worst first."""
    import numpy as np

    known = np.flatnonzero(~np.isnan(vectors.clip_scores))
    found = known[outliers(-vectors.clip_scores[known], 2.5 * CLEAR)]
    found = found[np.argsort(vectors.clip_scores[found], kind="stable")]
    who = escape_control(arrays.subjects[vectors.subject]) or "the dataset"
    yield RawFinding(
        "note",
        "caption fits badly",
        f"The caption fits its image much worse than others do; {len(known):,} captions of {who} compared by CLIP.",
        'Compare it with its image: prep review; rewrite it: prep edit NAME --set "..."',
        arrays.rows[vectors.indices[found]],
    )


def _one_per_source(arrays: DatasetArrays, number: int) -> tuple[np.ndarray, int]:
    """One training or validation image of each of a subject's sources, MOST at most, and how many sources it has.

    Copies of an image come after it, so the image itself is taken; ids are hashes, so evenly spaced ones are a
    fair sample.
    """
    import numpy as np

    own = (arrays.subject == number) & (arrays.with_role("train") | arrays.with_role("val"))
    first = np.flatnonzero(is_in(own, first_index(arrays.root_hash[own])))
    if len(first) <= MOST:
        return first, len(first)
    return first[np.linspace(0, len(first) - 1, MOST).astype(np.int64)], len(first)


def _clip_scores(store: VectorStore, rows: np.ndarray, captions: list[str]) -> np.ndarray:
    """The CLIP score of each caption; NaN where the caption has no vector."""
    import numpy as np

    scores = np.full(len(rows), np.nan, np.float32)
    vectors, known = store.gather([caption_key(caption) for caption in captions])
    if len(known):
        scores[known] = clip_score(rows[known], vectors)
    return scores


RULES: tuple[Callable[[DatasetArrays, SubjectVectors], Iterator[RawFinding]], ...] = (
    same_scene,
    image_outliers,
    poor_captions,
)
