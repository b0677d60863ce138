"""Look-alikes within a set by hash and by CLIP, those across roles first; and the images unlike the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.checks.dataset_arrays import ROLES, DatasetArrays
from pipeline.checks.vector_rules import hidden_scenes, load_vectors, strays
from pipeline.manifest import Manifest
from pipeline.report.facts import ClipSimilarity, DuplicateGroup, NearDuplicates
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

    from pipeline.report.manifest_columns import NameLookup

_LISTED = 200  # groups that are told one by one
_MEMBERS = 12  # images of a group that are told one by one
_UNLIKE = 12  # images unlike the rest that are told one by one


def likeness(cards: DatasetArrays, originals: np.ndarray, names: NameLookup) -> NearDuplicates:
    """Groups of originals whose perceptual hashes are near; several crops of one source are no duplicates."""
    import numpy as np

    if cards.near < 0:
        return NearDuplicates(None, 0, 0, 0, ())
    chosen = np.flatnonzero(originals)
    chosen = chosen[np.argsort(cards.group[chosen], kind="stable")]
    members = np.split(chosen, np.flatnonzero(np.diff(cards.group[chosen])) + 1)
    found = [some for some in members if len(some) > 1 and len(np.unique(cards.root[some])) > 1]
    across = sum(len(np.unique(cards.role[some])) > 1 for some in found)
    return NearDuplicates(cards.near, len(found), sum(map(len, found)), across, _listed(found, cards, names))


def seen(cards: DatasetArrays, manifest: Manifest, workspace: Workspace, names: NameLookup) -> ClipSimilarity | None:
    """What stored vectors say of the subjects' images; None where there are none."""
    import numpy as np

    compared = images = 0
    scenes: list[np.ndarray] = []
    unlike: list[tuple[float, int]] = []
    for one in load_vectors(cards, manifest, workspace):
        compared, images = compared + len(one.places), images + one.sources
        hidden = np.flatnonzero(hidden_scenes(cards, one))
        hidden = hidden[np.argsort(one.scene[hidden], kind="stable")]
        groups = np.split(one.places[hidden], np.flatnonzero(np.diff(one.scene[hidden])) + 1)
        scenes += [group for group in groups if len(group)]
        unlike += [(float(one.unlike[at]), int(cards.rows[one.places[at]])) for at in strays(one)]
    if not compared:
        return None
    worst = sorted(unlike, reverse=True)[:_UNLIKE]
    named = zip(names(row for _, row in worst), (round(far, 4) for far, _ in worst), strict=True)
    return ClipSimilarity(compared, images, len(scenes), _listed(scenes, cards, names), tuple(named))


def _listed(found: list[np.ndarray], cards: DatasetArrays, names: NameLookup) -> tuple[DuplicateGroup, ...]:
    """The first groups with their first images: those across roles, then the largest."""
    import numpy as np

    roles = [tuple(ROLES[role] for role in np.unique(cards.role[some]).tolist()) for some in found]
    ranked = sorted(range(len(found)), key=lambda n: (len(roles[n]) == 1, -len(found[n]), found[n][0]))[:_LISTED]
    named = iter(names(row for n in ranked for row in cards.rows[found[n][:_MEMBERS]]))
    return tuple(
        DuplicateGroup(tuple(next(named) for _ in found[n][:_MEMBERS]), len(found[n]), roles[n]) for n in ranked
    )
