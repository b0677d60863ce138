"""What stored vectors say of each subject's images: one scene several times, odd images, captions that miss."""

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

# Cosine from which on two images of a subject are taken for one scene: fastdup's bound for "nearly identical".
ALIKE = 0.98
# Models differ in how alike any two images are to them, so bounds also go by how far apart a subject's lie.
CLOSER = 4  # times as near as far pairs: what images of one scene must be as well
FARTHER = 8  # an odd image is farther out than the usual one by at least the distance of far pairs over this
CLEAR = 0.01  # of cosine, and at least by so much: less than a new encoding of the same image may make
ODD = 3.5  # robust standard deviations from which on a value is odd, as Iglewicz and Hoaglin advise
ENOUGH = 8  # images of which it makes sense to call one odd
MOST = 20_000  # images of a subject that are compared: all pairs take some 11 s of one core


@dataclass(frozen=True, slots=True)
class SubjectVectors:
    """One subject's images of which a vector is stored, one image a source; an entry each in every array."""

    subject: int  # its number in Cards.subjects
    sources: int  # of its images, with a vector or without
    spread: float  # 1 - cosine of its far pairs
    indices: np.ndarray  # int64: which arrays they are
    scene: np.ndarray  # int64: images that show nearly the same share one
    outlier_score: np.ndarray  # float32: how far each is from the others, as pipeline.vectors.strangeness has it
    clip_scores: np.ndarray  # float32: how well its caption fits it; NaN where the caption has no vector

    def coverage(self, arrays: DatasetArrays) -> str:
        """'22 of 24 images of smith': of how many a finding speaks."""
        who = escape_control(arrays.subjects[self.subject]) or "the set"
        return f"{len(self.indices):,} of {self.sources:,} images of {who}"


def apply_vector_rules(arrays: DatasetArrays, manifest: Manifest, workspace: Workspace) -> Iterator[RawFinding]:
    """What the rules of this file say; nothing without vectors. No model is loaded."""
    for seen in load_vectors(arrays, manifest, workspace):
        for rule in RULES:
            yield from rule(arrays, seen)


def load_vectors(arrays: DatasetArrays, manifest: Manifest, workspace: Workspace) -> Iterator[SubjectVectors]:
    """Subject by subject what the vectors that a manifest's history names say of its images."""
    import numpy as np

    store = VectorStore.recorded(workspace, manifest.history)
    if store is None or not store.folder.is_dir():
        return
    chosen = [(number, *_sources(arrays, number)) for number in range(len(arrays.subjects))]
    places = np.sort(np.concatenate([some for _, some, _ in chosen]))
    said = dict(
        zip(
            places.tolist(), read_columns(manifest, arrays.rows[places], ("image.pixel_sha256", "caption")), strict=True
        )
    )
    for number, some, sources in chosen:
        rows, known = store.gather([said[place][0] for place in some.tolist()])
        if len(known):
            some = some[known]
            far = pairwise_spread(rows)
            scenes = near_groups(rows, max(ALIKE, 1 - far / CLOSER))
            fits = _fits(store, rows, [said[place][1] for place in some.tolist()])
            yield SubjectVectors(number, sources, far, some, scenes, knn_outlier_score(rows), fits)


def outliers(values: np.ndarray, clear: float) -> np.ndarray:
    """Which values are far above the others: ODD robust deviations, and at least `clear`; of fewer than ENOUGH none."""
    import numpy as np

    if len(values) < ENOUGH:
        return np.zeros(len(values), bool)
    return np.asarray((deviations(values) > ODD) & (values - np.median(values) > clear))


def hidden_scenes(arrays: DatasetArrays, seen: SubjectVectors) -> np.ndarray:
    """Which images show nearly the same as another one, though no chain of near perceptual hashes joins the two."""
    import numpy as np

    kinds = np.unique(np.stack([seen.scene, arrays.duplicate_group[seen.indices]]), axis=1)[0]
    return np.asarray(np.bincount(kinds, minlength=len(seen.scene))[seen.scene] > 1)


def sorted_outliers(seen: SubjectVectors) -> np.ndarray:
    """Which images are far from the others, by their place in `seen`, the farthest first."""
    import numpy as np

    found = np.flatnonzero(outliers(seen.outlier_score, max(CLEAR, seen.spread / FARTHER)))
    return found[np.argsort(-seen.outlier_score[found], kind="stable")]


def one_scene(arrays: DatasetArrays, seen: SubjectVectors) -> Iterator[RawFinding]:
    """Images that show nearly the same without looking so to their hashes: in two roles, or in one."""
    import numpy as np

    hidden, role = hidden_scenes(arrays, seen), arrays.role[seen.indices]
    kinds = np.unique(np.stack([seen.scene, role]), axis=1)[0]
    across = hidden & (np.bincount(kinds, minlength=len(role))[seen.scene] > 1)
    told = f"{seen.coverage(arrays)} compared by CLIP"
    side_by_side = "prep report shows them side by side"
    yield RawFinding(
        "warning",
        "same scene in two sets",
        f"An image in the training set and one in the validation set show nearly the same; {told}.",
        f"{side_by_side}; leave one out: prep edit NAME --drop",
        arrays.rows[seen.indices[across]],
    )
    yield RawFinding(
        "note",
        "same scene",
        f"Images of one scene, though their hashes differ: together they count as many times as they are; {told}.",
        f"{side_by_side}; keep the best: prep edit NAME --drop",
        arrays.rows[seen.indices[hidden & ~across]],
    )


def unlike_the_rest(arrays: DatasetArrays, seen: SubjectVectors) -> Iterator[RawFinding]:
    """Images far from the others of their subject, the farthest first."""
    yield RawFinding(
        "note",
        "unlike the rest",
        f"The image is unlike the rest of its subject; {seen.coverage(arrays)} compared by CLIP.",
        "Look whether it shows the subject, and is meant to; if not, leave it out: prep edit NAME --drop",
        arrays.rows[seen.indices[sorted_outliers(seen)]],
    )


def poor_captions(arrays: DatasetArrays, seen: SubjectVectors) -> Iterator[RawFinding]:
    """Captions that fit their images far less than the others do, the worst first."""
    import numpy as np

    known = np.flatnonzero(~np.isnan(seen.clip_scores))
    found = known[outliers(-seen.clip_scores[known], 2.5 * CLEAR)]
    found = found[np.argsort(seen.clip_scores[found], kind="stable")]
    who = escape_control(arrays.subjects[seen.subject]) or "the set"
    yield RawFinding(
        "note",
        "caption fits badly",
        f"The caption fits its image far less than others do; {len(known):,} captions of {who} compared by CLIP.",
        'Read it beside its image: prep edit NAME --set "..."',
        arrays.rows[seen.indices[found]],
    )


def _sources(arrays: DatasetArrays, number: int) -> tuple[np.ndarray, int]:
    """One image of each source that a subject is trained or judged on, MOST at most, and how many sources it has.

    Copies of an image stand behind it, so that the image is taken; ids are hashes, so that evenly spread ones are
    a fair sample.
    """
    import numpy as np

    mine = (arrays.subject == number) & (arrays.with_role("train") | arrays.with_role("val"))
    first = np.flatnonzero(is_in(mine, first_index(arrays.root_hash[mine])))
    if len(first) <= MOST:
        return first, len(first)
    return first[np.linspace(0, len(first) - 1, MOST).astype(np.int64)], len(first)


def _fits(store: VectorStore, rows: np.ndarray, captions: list[str]) -> np.ndarray:
    """How well captions fit images; NaN where the caption has no vector."""
    import numpy as np

    scores = np.full(len(rows), np.nan, np.float32)
    vectors, known = store.gather([caption_key(caption) for caption in captions])
    if len(known):
        scores[known] = clip_score(rows[known], vectors)
    return scores


RULES: tuple[Callable[[DatasetArrays, SubjectVectors], Iterator[RawFinding]], ...] = (
    one_scene,
    unlike_the_rest,
    poor_captions,
)
