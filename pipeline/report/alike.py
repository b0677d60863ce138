"""Near-duplicates within a set: groups of originals that look alike, those across roles first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.checks.cards import ROLES, Cards
from pipeline.report.facts import Alike, Likeness

if TYPE_CHECKING:
    import numpy as np

    from pipeline.report.columns import Names

_LISTED = 200  # groups that are told one by one
_MEMBERS = 12  # pictures of a group that are told one by one


def likeness(cards: Cards, originals: np.ndarray, names: Names) -> Likeness:
    """Groups of originals whose perceptual hashes are near; several crops of one source are no duplicates."""
    import numpy as np

    if cards.near < 0:
        return Likeness(None, 0, 0, 0, ())
    chosen = np.flatnonzero(originals)
    chosen = chosen[np.argsort(cards.group[chosen], kind="stable")]
    members = np.split(chosen, np.flatnonzero(np.diff(cards.group[chosen])) + 1)
    found = [some for some in members if len(some) > 1 and len(np.unique(cards.root[some])) > 1]
    roles = [tuple(ROLES[role] for role in np.unique(cards.role[some]).tolist()) for some in found]
    ranked = sorted(range(len(found)), key=lambda n: (len(roles[n]) == 1, -len(found[n]), found[n][0]))[:_LISTED]
    named = iter(names(row for n in ranked for row in cards.rows[found[n][:_MEMBERS]]))
    listed = tuple(Alike(tuple(next(named) for _ in found[n][:_MEMBERS]), len(found[n]), roles[n]) for n in ranked)
    across = sum(len(some) > 1 for some in roles)
    return Likeness(cards.near, len(found), sum(map(len, found)), across, listed)
