"""The models that prep knows by a short name: where they are, what is needed of them, how large they are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Known:
    """A model that a tagger or the trainer can use."""

    name: str  # what people type
    hub: str  # its id on the hub
    files: tuple[str, ...]
    size: int  # bytes of those files, about
    used_by: str
    revision: str = "main"  # a commit, where one is known to be good; main: the newest


_WD = ("model.onnx", "selected_tags.csv")

KNOWN: tuple[Known, ...] = (
    Known("wd-vit-tagger-v3", "SmilingWolf/wd-vit-tagger-v3", _WD, 378_844_000, "wd14"),
    Known("wd-v1-4-moat-tagger-v2", "SmilingWolf/wd-v1-4-moat-tagger-v2", _WD, 326_500_000, "wd14"),
)


def known(model: str) -> Known | None:
    """The entry with this short name or hub id."""
    return next((entry for entry in KNOWN if model in (entry.name, entry.hub)), None)
