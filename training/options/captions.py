"""Options of prep train: captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.stage import Options, option


@dataclass(frozen=True, kw_only=True)
class CaptionOptions(Options):
    """How captions are changed at every repeat, and how they are encoded."""

    name: ClassVar[str] = "train"
    section: ClassVar[str] = "Captions"

    shuffle_caption: bool = option(False, "Shuffle the tags of a caption every time it is used.")
    keep_tokens: int = option(1, "Number of tags at the beginning that are neither shuffled nor dropped.", low=0)
    keep_separator: str = option(
        "",
        "Separator after the fixed tags, such as '|||'; a second one starts fixed tags at the end. It is removed from "
        "the prompt. In captions without it, --keep-tokens counts.",
    )
    secondary_separator: str = option(
        "",
        "Separator of tags that are shuffled and dropped together, such as ';;;': red hat;;;red coat. It becomes a "
        "comma in the prompt.",
    )
    caption_dropout: float = option(
        0.0, "Probability of training with an empty caption, 0 to 1; usual: 0.1.", low=0, high=1
    )
    caption_dropout_every_n_epochs: int = option(0, "Empty all captions in every Nth epoch; 0: never.", low=0)
    tag_dropout: float = option(
        0.0, "Probability of dropping each tag, 0 to 1; fixed tags are never dropped.", low=0, high=1
    )
    wildcards: bool = option(
        False, "Pick one line of a caption at random, and one choice of {red|green|blue}; choices may be nested."
    )
    caption_prefix: str = option("", "Text before every caption that is not empty.")
    caption_suffix: str = option("", "Text after every caption that is not empty.")
    max_token_length: Literal[75, 150, 225] = option(75, "Maximum number of tokens of a caption; the rest is cut off.")
    clip_skip: int = option(
        1,
        "Layer of the text encoder whose output is used, counted from its end; 1: the last. Stable Diffusion 1.x only.",
        low=1,
        high=12,
    )
    weighted_captions: bool = option(False, "Read brackets in captions as weights, such as (word:1.2), like WebUI.")

    def check(self) -> None:
        if self.caption_dropout_every_n_epochs == 1:
            raise PrepError(
                "train: caption_dropout_every_n_epochs is 1, which leaves every caption empty.",
                "Use 2 or more, or a share: --caption-dropout 0.1",
            )
        if self.caption_dropout == 1:
            raise PrepError(
                "train: caption_dropout is 1, which leaves every caption empty.", "Usual: --caption-dropout 0.1"
            )

    @property
    def endless(self) -> bool:
        """Whether an image has too many prompts to encode them all before training."""
        return bool(self.shuffle_caption or self.tag_dropout or self.wildcards)

    @property
    def varied(self) -> bool:
        """Whether an image's prompt may differ from repeat to repeat."""
        return bool(self.endless or self.caption_dropout or self.caption_dropout_every_n_epochs)
