"""Options of prep train: textual inversion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.stage import Options, option


@dataclass(frozen=True, kw_only=True)
class TextualInversionOptions(Options):
    """What textual inversion learns, and how fast."""

    name: ClassVar[str] = "train"
    section: ClassVar[str] = "Textual inversion"

    num_vectors: int = option(
        0,
        "Vectors of an embedding; 0: by the subject's images, 2 for fewer than 20 up to 16 from 150 on.",
        low=0,
        high=75,
    )
    init_text: str = option("", "Words that an embedding begins as, such as 'young man'; else the subject's class.")
    init_mean: bool = option(False, "Let all vectors begin as the words' mean, instead of one word after the other.")
    embedding_lr: str = option(
        "0.005",
        "Learning rate of embeddings, also one that changes at given steps, such as '0.05:10, 0.02:20, 0.01:60, "
        "0.005:200, 0.002:500, 0.001:3000, 0.0005'; usual are 3000 steps and more.",
        metavar="RATE[:STEP],...",
    )
    max_embedding_norm: float = option(
        1.5,
        "How long a vector may become, times the usual length of the base's own; 0: as long as it will. "
        "Too long ones drown the rest of a prompt.",
        low=0,
        high=1000,
    )
