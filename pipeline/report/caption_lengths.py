"""The captions of a set, page by page: their lengths in CLIP tokens, and how many have each part."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.checks.caption_pages import RowPage
from pipeline.checks.caption_parts import CaptionSplitter
from pipeline.checks.contradiction_rules import features
from pipeline.checks.rule_context import CaptionPage
from pipeline.clip_tokens import WINDOW
from pipeline.report.facts import CaptionStats
from pipeline.report.histogram import Gauge, histogram

if TYPE_CHECKING:
    import numpy as np

    from pipeline.checks.dataset_arrays import DatasetArrays
    from pipeline.report.manifest_columns import NameLookup

_TOKENS = Gauge((15, 30, 45, 60, 75, 100, 150, 225), "{:g}".format, WINDOW)  # 75, 150, 225 fill the encoder's windows
_LONGEST = 5  # captions told by name
_TAG = 60  # letters: longer parts are sentences, of which a set may have as many as images


@dataclass(slots=True)
class CaptionLengths:
    """What was read of the captions so far."""

    parts: Counter[str] = field(default_factory=Counter)  # by plain part: captions that have it
    lengths: list[np.ndarray] = field(default_factory=list)  # tokens, one entry an image
    cutter: CaptionSplitter = field(default_factory=CaptionSplitter)

    def take(self, page: RowPage) -> tuple[CaptionPage, np.ndarray]:
        """Read one page on its way to the cards; returns what those are dealt from."""
        import numpy as np
        import pyarrow.compute as pc

        chunks = self.cutter(page.column("caption"))
        self.lengths.append(chunks.tokens)
        pairs = chunks.pairs()
        pairs = pairs[np.append(True, pairs[1:] != pairs[:-1])] if len(pairs) else pairs  # said twice counts once
        counts = np.bincount(pairs % max(1, len(chunks.plains)), minlength=len(chunks.plains))
        size = pc.utf8_length(chunks.plains).to_numpy(zero_copy_only=False)
        short = np.flatnonzero((size > 0) & (size <= _TAG))
        for part, count in zip(chunks.plains.take(short).to_pylist(), counts[short].tolist(), strict=True):
            self.parts[part] += count
        look = CaptionPage(page, chunks)
        return look, features(look)

    def captions(self, cards: DatasetArrays, names: NameLookup) -> CaptionStats | None:
        """The lengths of all captions; None where no image has one."""
        import numpy as np

        tokens = np.concatenate([np.zeros(0, np.int64), *self.lengths])
        if not tokens.any():
            return None
        longest = np.argsort(-tokens, kind="stable")[:_LONGEST]
        return CaptionStats(
            histogram(tokens, _TOKENS),
            int((tokens == 0).sum()),
            len(np.unique(cards.caption)),
            round(float(tokens.mean()), 2),
            int(_TOKENS.bad(tokens).sum()),
            tuple((one, int(tokens[at])) for one, at in zip(names(cards.rows[longest]), longest, strict=True)),
        )
