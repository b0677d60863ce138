"""Options of prep train: textual inversion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.stage import Options, option


@dataclass(frozen=True, kw_only=True)
class TextualInversionOptions(Options):
    """Size, initialization and learning rate of embeddings."""

    name: ClassVar[str] = "train"
    section: ClassVar[str] = "Textual inversion"

    num_vectors: int = option(
        0,
        "Vectors per embedding; 0: by the number of the subject's images, from 2 (below 20 images) to 16 (from 150).",
        low=0,
        high=75,
    )
    init_text: str = option(
        "", "Text whose token embeddings are the initial vectors, such as 'young man'. Default: the subject's class."
    )
    init_mean: bool = option(
        False, "Initialize every vector with the mean of the text's token embeddings instead of one token each."
    )
    embedding_lr: str = option(
        "0.005",
        "Learning rate of embeddings: one rate, or rates up to given steps, such as '0.05:10, 0.02:20, 0.01:60, "
        "0.005:200, 0.002:500, 0.001:3000, 0.0005'.",
        metavar="RATE[:STEP],...",
    )
    max_embedding_norm: float = option(
        1.5,
        "Largest norm of a vector, as a multiple of the median norm in the base model's vocabulary; 0: no limit. "
        "Longer vectors make the model ignore the rest of a prompt.",
        low=0,
        high=1000,
    )
