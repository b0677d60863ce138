"""Caption lengths in CLIP tokens, and how many captions contain each part."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.checks.caption_pages import RowPage
from pipeline.checks.caption_parts import CaptionSplitter
from pipeline.checks.contradiction_rules import named_values
from pipeline.checks.rule_context import CaptionPage
from pipeline.clip_tokens import WINDOW
from pipeline.report.data import CaptionStats
from pipeline.report.histogram import Bins, histogram

if TYPE_CHECKING:
    import numpy as np

    from pipeline.checks.dataset_arrays import DatasetArrays
    from pipeline.report.manifest_columns import ImageRefs

_TOKENS = Bins((15, 30, 45, 60, 75, 100, 150, 225), "{:g}".format, WINDOW)  # 75, 150, 225 fill the encoder's windows
_LONGEST = 5  # captions listed
_TAG_LENGTH = 60  # characters: longer parts are sentences, and nearly every image has its own


@dataclass(slots=True)
class CaptionLengths:
    """Collects caption lengths and parts page by page."""

    parts: Counter[str] = field(default_factory=Counter)  # by normalized part: captions that contain it
    lengths: list[np.ndarray] = field(default_factory=list)  # tokens, one entry per image
    splitter: CaptionSplitter = field(default_factory=CaptionSplitter)

    def add_page(self, page: RowPage) -> tuple[CaptionPage, np.ndarray]:
        """Count one page of rows; returns what `load_arrays` reads of it."""
        import numpy as np
        import pyarrow.compute as pc

        chunks = self.splitter(page.column("caption"))
        self.lengths.append(chunks.tokens)
        pairs = chunks.pairs()
        pairs = pairs[np.append(True, pairs[1:] != pairs[:-1])] if len(pairs) else pairs  # repeated parts count once
        counts = np.bincount(pairs % max(1, len(chunks.texts)), minlength=len(chunks.texts))
        size = pc.utf8_length(chunks.texts).to_numpy(zero_copy_only=False)
        short = np.flatnonzero((size > 0) & (size <= _TAG_LENGTH))
        for part, count in zip(chunks.texts.take(short).to_pylist(), counts[short].tolist(), strict=True):
            self.parts[part] += count
        caption_page = CaptionPage(page, chunks)
        return caption_page, named_values(caption_page)

    def stats(self, arrays: DatasetArrays, refs: ImageRefs) -> CaptionStats | None:
        """The lengths of all captions; None if no image has one."""
        import numpy as np

        tokens = np.concatenate([np.zeros(0, np.int64), *self.lengths])
        if not tokens.any():
            return None
        longest = np.argsort(-tokens, kind="stable")[:_LONGEST]
        return CaptionStats(
            bars=histogram(tokens, _TOKENS),
            empty=int((tokens == 0).sum()),
            distinct=len(np.unique(arrays.caption_hash)),
            mean=round(float(tokens.mean()), 2),
            over_window=int(_TOKENS.beyond_limit(tokens).sum()),
            longest=tuple(zip(refs(arrays.rows[longest]), tokens[longest].tolist(), strict=True)),
        )
