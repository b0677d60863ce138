"""Options of prep train: sample images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.stage import Options, option


@dataclass(frozen=True, kw_only=True)
class SamplingOptions(Options):
    """Sample images: of the base model, during training and at its end."""

    name: ClassVar[str] = "train"
    section: ClassVar[str] = "Sample images"

    sample_every_epochs: int = option(
        0, "Generate samples every N epochs; 0: never. `prep init` writes 1 into the recipe.", low=0, cache_key=False
    )
    sample_every_steps: int = option(
        0, "Generate samples every N steps, in addition to --sample-every-epochs; 0: never.", low=0, cache_key=False
    )
    sample_prompts: str = option(
        "",
        "Text file of prompts, one per line, optionally followed by --w and --h (pixels), --d (seed), --s (steps), "
        "--l (guidance scale) and --n (negative prompt), like kohya's. Given alone, samples are generated before and "
        "after training. Prompts are read as captions are, with --clip-skip, --weighted-captions and "
        "--max-token-length. Default: four prompts such as 'photo of smith man', made from token and class.",
        metavar="FILE",
        cache_key=False,
    )
    sample_steps: int = option(25, "Sampling steps of prompts without --s.", low=1, high=1000, cache_key=False)
    sample_batch_size: int = option(
        1,
        "Samples to generate at once if their sizes and settings are equal; faster, but the last bits may differ.",
        low=1,
        high=64,
        cache_key=False,
    )
    sample_base: bool = option(True, "Generate the samples of the base model before training, too.", cache_key=False)
    sample_clip: str = option(
        "",
        "CLIP model that scores the samples. Default: clip-vit-b-32, if it is installed.",
        metavar="MODEL",
        cache_key=False,
    )
