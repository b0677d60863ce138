"""Options of prep train: captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.stage import Options, option


@dataclass(frozen=True, kw_only=True)
class CaptionOptions(Options):
    """How captions change from draw to draw, and how much of them the model is told."""

    name: ClassVar[str] = "train"
    section: ClassVar[str] = "Captions"

    shuffle_caption: bool = option(False, "Shuffle the tags of a caption anew at every draw.")
    keep_tokens: int = option(1, "Tags at the beginning that shuffling and tag dropout leave in place.", low=0)
    keep_separator: str = option(
        "",
        "Text that ends the part left in place instead of a count, such as '|||'; a second one begins a part left "
        "in place at the end. It never enters the prompt.",
    )
    caption_dropout: float = option(0.0, "Share of the draws whose caption is left empty.", low=0, high=1)
    caption_dropout_every_n_epochs: int = option(
        0, "Leave all captions empty in every Nth epoch: with 3 in the epochs 3, 6, 9. 0: never.", low=0
    )
    tag_dropout: float = option(
        0.0, "Share of the tags left out at every draw; never those kept in place.", low=0, high=1
    )
    wildcards: bool = option(
        False, "Draw one line of a caption of several, and one of the choices in {red|green|blue}, nested ones too."
    )
    caption_prefix: str = option("", "Text before every caption that is not left empty.")
    caption_suffix: str = option("", "Text after every caption that is not left empty.")
    max_token_length: Literal[75, 150, 225] = option(75, "Tokens of a caption that the model is told.")
    clip_skip: int = option(
        1, "Which layer of the text encoder counts from its end, 1 the last; Stable Diffusion 1.x only.", low=1, high=12
    )
    weighted_captions: bool = option(False, "Read brackets in captions as weights, such as (word:1.2), as WebUI does.")

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
        """Whether an image's prompts are too many to know ahead."""
        return bool(self.shuffle_caption or self.tag_dropout or self.wildcards)

    @property
    def varied(self) -> bool:
        """Whether an image's prompt may differ from draw to draw."""
        return bool(self.endless or self.caption_dropout or self.caption_dropout_every_n_epochs)
