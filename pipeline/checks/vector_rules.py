"""What stored vectors say of each subject's pictures: one scene several times, odd pictures, captions that miss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.checks.array_ops import among, firsts
from pipeline.checks.caption_pages import texts
from pipeline.checks.dataset_arrays import Cards
from pipeline.checks.finding import Hit
from pipeline.manifest import Manifest
from pipeline.tag_text import printable
from pipeline.vectors import Store, caption_key, deviations, fit, near_groups, spread, strangeness
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

# Cosine from which on two pictures of a subject are taken for one scene: fastdup's bound for "nearly identical".
ALIKE = 0.98
# Models differ in how alike any two pictures are to them, so bounds also go by how far apart a subject's lie.
CLOSER = 4  # times as near as far pairs: what pictures of one scene must be as well
FARTHER = 8  # an odd picture is farther out than the usual one by at least the distance of far pairs over this
CLEAR = 0.01  # of cosine, and at least by so much: less than a new encoding of the same picture may make
ODD = 3.5  # robust standard deviations from which on a value is odd, as Iglewicz and Hoaglin advise
ENOUGH = 8  # pictures of which it makes sense to call one odd
MOST = 20_000  # pictures of a subject that are compared: all pairs take some 11 s of one core


@dataclass(frozen=True, slots=True)
class Seen:
    """One subject's pictures of which a vector is stored, one picture a source; an entry each in every array."""

    subject: int  # its number in Cards.subjects
    sources: int  # of its pictures, with a vector or without
    spread: float  # 1 - cosine of its far pairs
    places: np.ndarray  # int64: which cards they are
    scene: np.ndarray  # int64: pictures that show nearly the same share one
    unlike: np.ndarray  # float32: how far each is from the others, as pipeline.vectors.strangeness has it
    fit: np.ndarray  # float32: how well its caption fits it; NaN where the caption has no vector

    def of(self, cards: Cards) -> str:
        """'22 of 24 pictures of smith': of how many a finding speaks."""
        who = printable(cards.subjects[self.subject]) or "the set"
        return f"{len(self.places):,} of {self.sources:,} pictures of {who}"


def judge(cards: Cards, manifest: Manifest, workspace: Workspace) -> Iterator[Hit]:
    """What the rules of this file say; nothing without vectors. No model is loaded."""
    for seen in see(cards, manifest, workspace):
        for rule in RULES:
            yield from rule(cards, seen)


def see(cards: Cards, manifest: Manifest, workspace: Workspace) -> Iterator[Seen]:
    """Subject by subject what the vectors that a manifest's history names say of its pictures."""
    import numpy as np

    store = Store.recorded(workspace, manifest.history)
    if store is None or not store.folder.is_dir():
        return
    chosen = [(number, *_sources(cards, number)) for number in range(len(cards.subjects))]
    places = np.sort(np.concatenate([some for _, some, _ in chosen]))
    said = dict(zip(places.tolist(), texts(manifest, cards.rows[places], ("picture.pixels", "caption")), strict=True))
    for number, some, sources in chosen:
        rows, known = store.gather([said[place][0] for place in some.tolist()])
        if len(known):
            some = some[known]
            far = spread(rows)
            scenes = near_groups(rows, max(ALIKE, 1 - far / CLOSER))
            fits = _fits(store, rows, [said[place][1] for place in some.tolist()])
            yield Seen(number, sources, far, some, scenes, strangeness(rows), fits)


def odd(values: np.ndarray, clear: float) -> np.ndarray:
    """Which values are far above the others: ODD robust deviations, and at least `clear`; of fewer than ENOUGH none."""
    import numpy as np

    if len(values) < ENOUGH:
        return np.zeros(len(values), bool)
    return np.asarray((deviations(values) > ODD) & (values - np.median(values) > clear))


def hidden_scenes(cards: Cards, seen: Seen) -> np.ndarray:
    """Which pictures show nearly the same as another one, though no chain of near perceptual hashes joins the two."""
    import numpy as np

    kinds = np.unique(np.stack([seen.scene, cards.group[seen.places]]), axis=1)[0]
    return np.asarray(np.bincount(kinds, minlength=len(seen.scene))[seen.scene] > 1)


def strays(seen: Seen) -> np.ndarray:
    """Which pictures are far from the others, by their place in `seen`, the farthest first."""
    import numpy as np

    found = np.flatnonzero(odd(seen.unlike, max(CLEAR, seen.spread / FARTHER)))
    return found[np.argsort(-seen.unlike[found], kind="stable")]


def one_scene(cards: Cards, seen: Seen) -> Iterator[Hit]:
    """Pictures that show nearly the same without looking so to their hashes: in two roles, or in one."""
    import numpy as np

    hidden, role = hidden_scenes(cards, seen), cards.role[seen.places]
    kinds = np.unique(np.stack([seen.scene, role]), axis=1)[0]
    across = hidden & (np.bincount(kinds, minlength=len(role))[seen.scene] > 1)
    told = f"{seen.of(cards)} compared by CLIP"
    side_by_side = "prep report shows them side by side"
    yield Hit(
        "warning",
        "same scene in two sets",
        f"A picture in the training set and one in the validation set show nearly the same; {told}.",
        f"{side_by_side}; leave one out: prep edit NAME --drop",
        cards.rows[seen.places[across]],
    )
    yield Hit(
        "note",
        "same scene",
        f"Pictures of one scene, though their hashes differ: together they count as many times as they are; {told}.",
        f"{side_by_side}; keep the best: prep edit NAME --drop",
        cards.rows[seen.places[hidden & ~across]],
    )


def unlike_the_rest(cards: Cards, seen: Seen) -> Iterator[Hit]:
    """Pictures far from the others of their subject, the farthest first."""
    yield Hit(
        "note",
        "unlike the rest",
        f"The picture is unlike the rest of its subject; {seen.of(cards)} compared by CLIP.",
        "Look whether it shows the subject, and is meant to; if not, leave it out: prep edit NAME --drop",
        cards.rows[seen.places[strays(seen)]],
    )


def missed(cards: Cards, seen: Seen) -> Iterator[Hit]:
    """Captions that fit their pictures far less than the others do, the worst first."""
    import numpy as np

    known = np.flatnonzero(~np.isnan(seen.fit))
    found = known[odd(-seen.fit[known], 2.5 * CLEAR)]
    found = found[np.argsort(seen.fit[found], kind="stable")]
    who = printable(cards.subjects[seen.subject]) or "the set"
    yield Hit(
        "note",
        "caption fits badly",
        f"The caption fits its picture far less than others do; {len(known):,} captions of {who} compared by CLIP.",
        'Read it beside its picture: prep edit NAME --set "..."',
        cards.rows[seen.places[found]],
    )


def _sources(cards: Cards, number: int) -> tuple[np.ndarray, int]:
    """One picture of each source that a subject is trained or judged on, MOST at most, and how many sources it has.

    Copies of a picture stand behind it, so that the picture is taken; ids are hashes, so that evenly spread ones are
    a fair sample.
    """
    import numpy as np

    mine = (cards.subject == number) & (cards.of("train") | cards.of("val"))
    first = np.flatnonzero(among(mine, firsts(cards.root[mine])))
    if len(first) <= MOST:
        return first, len(first)
    return first[np.linspace(0, len(first) - 1, MOST).astype(np.int64)], len(first)


def _fits(store: Store, rows: np.ndarray, captions: list[str]) -> np.ndarray:
    """How well captions fit pictures; NaN where the caption has no vector."""
    import numpy as np

    scores = np.full(len(rows), np.nan, np.float32)
    vectors, known = store.gather([caption_key(caption) for caption in captions])
    if len(known):
        scores[known] = fit(rows[known], vectors)
    return scores


RULES: tuple[Callable[[Cards, Seen], Iterator[Hit]], ...] = (one_scene, unlike_the_rest, missed)
