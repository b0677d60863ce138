"""Near-duplicates by perceptual hash, and same scenes and outliers by CLIP embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.checks.dataset_arrays import ROLES, DatasetArrays
from pipeline.checks.vector_rules import hidden_scenes, load_vectors, sorted_outliers
from pipeline.manifest import Manifest
from pipeline.report.data import ClipSimilarity, DuplicateGroup, NearDuplicates
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

    from pipeline.report.manifest_columns import ImageRefs

_GROUPS = 200  # groups listed
_MEMBERS = 12  # images listed of each group
_OUTLIERS = 12  # outliers listed


def near_duplicates(arrays: DatasetArrays, originals: np.ndarray, refs: ImageRefs) -> NearDuplicates:
    """Groups of originals whose perceptual hashes are close; several crops of one source are no duplicates."""
    import numpy as np

    if arrays.duplicate_bits < 0:
        return NearDuplicates(None, 0, 0, 0, ())
    chosen = np.flatnonzero(originals)
    chosen = chosen[np.argsort(arrays.duplicate_group[chosen], kind="stable")]
    members = np.split(chosen, np.flatnonzero(np.diff(arrays.duplicate_group[chosen])) + 1)
    groups = [group for group in members if len(group) > 1 and len(np.unique(arrays.root_hash[group])) > 1]
    across_roles = sum(len(np.unique(arrays.role[group])) > 1 for group in groups)
    listed = _listed(groups, arrays, refs)
    return NearDuplicates(arrays.duplicate_bits, len(groups), sum(map(len, groups)), across_roles, listed)


def clip_similarity(
    arrays: DatasetArrays, manifest: Manifest, workspace: Workspace, refs: ImageRefs
) -> ClipSimilarity | None:
    """Same scenes and outliers by the stored CLIP embeddings; None if there are none."""
    import numpy as np

    compared = images = 0
    scenes: list[np.ndarray] = []
    outliers: list[tuple[float, int]] = []
    for vectors in load_vectors(arrays, manifest, workspace):
        compared, images = compared + len(vectors.indices), images + vectors.sources
        hidden = np.flatnonzero(hidden_scenes(arrays, vectors))
        hidden = hidden[np.argsort(vectors.scene[hidden], kind="stable")]
        groups = np.split(vectors.indices[hidden], np.flatnonzero(np.diff(vectors.scene[hidden])) + 1)
        scenes += [group for group in groups if len(group)]
        for at in sorted_outliers(vectors):
            outliers.append((float(vectors.outlier_score[at]), int(arrays.rows[vectors.indices[at]])))
    if not compared:
        return None
    farthest = sorted(outliers, reverse=True)[:_OUTLIERS]
    distances = (round(distance, 4) for distance, _ in farthest)
    named = tuple(zip(refs(row for _, row in farthest), distances, strict=True))
    return ClipSimilarity(compared, images, len(scenes), _listed(scenes, arrays, refs), named)


def _listed(groups: list[np.ndarray], arrays: DatasetArrays, refs: ImageRefs) -> tuple[DuplicateGroup, ...]:
    """The first groups with their first images: those across roles, then the largest."""
    import numpy as np

    roles = [tuple(ROLES[role] for role in np.unique(arrays.role[group]).tolist()) for group in groups]
    ranked = sorted(range(len(groups)), key=lambda n: (len(roles[n]) == 1, -len(groups[n]), groups[n][0]))[:_GROUPS]
    listed = iter(refs(row for n in ranked for row in arrays.rows[groups[n][:_MEMBERS]]))
    return tuple(
        DuplicateGroup(tuple(next(listed) for _ in groups[n][:_MEMBERS]), len(groups[n]), roles[n]) for n in ranked
    )
