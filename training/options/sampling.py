"""Options of prep train: sample images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.stage import Options, option


@dataclass(frozen=True, kw_only=True)
class SamplingOptions(Options):
    """Images painted while training: by the base model, whenever they are due, and at the end."""

    name: ClassVar[str] = "train"
    section: ClassVar[str] = "Sample images"

    sample_every_epochs: int = option(0, "Epochs between samples; 0: none by epochs.", low=0, cache_key=False)
    sample_every_steps: int = option(
        0, "Steps between samples, beside those of the epochs; 0: none.", low=0, cache_key=False
    )
    sample_prompts: str = option(
        "",
        "Text file of prompts to paint, one a line, each maybe with --w, --h (pixels), --d (seed), --s (steps), "
        "--l (guidance) and --n (what not to paint); given alone, they are painted at the beginning and the end. "
        "None: each subject's trigger alone, in a place, and with red hair.",
        metavar="FILE",
        cache_key=False,
    )
    sample_steps: int = option(
        25, "Sampling steps where the file says nothing else.", low=1, high=1000, cache_key=False
    )
    sample_batch_size: int = option(
        1,
        "Samples painted at once, where sizes and settings are equal: faster, and the last bits may differ.",
        low=1,
        high=64,
        cache_key=False,
    )
    sample_base: bool = option(
        True, "Paint what the base makes of the prompts, too, before it learns.", cache_key=False
    )
    sample_clip: str = option(
        "", "CLIP model that scores the samples; none: clip-vit-b-32, if it is here.", metavar="MODEL", cache_key=False
    )
