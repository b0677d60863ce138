"""Counts the CLIP tokens of captions, as prep train reads them."""

from __future__ import annotations

from pipeline.clip_tokens import Tokens
from training.sampling.prompt.emphasis import parse_emphasis


def count_tokens(caption: str, weighted: bool) -> int:
    """The number of tokens of a caption; if it is `weighted`, its brackets and weights are none."""
    parts = [part.text for part in parse_emphasis(caption, breaks=False)] if weighted else [caption]
    return sum(Tokens.load().counts(parts))
