"""Writes numbers with their noun: '1 image', '2,000 images'."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """The number with thousands separators, and the noun in its form; the plural is the noun with an s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
