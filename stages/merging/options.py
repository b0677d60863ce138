"""The options of prep merge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.errors import PrepError
from pipeline.stage import Options, option
from stages.merging.groups import KeywordGroup
from stages.merging.rewrite import read_rewrites
from stages.merging.template import DEFAULT_TEMPLATE, parse_template
from stages.merging.thresholds import Thresholds, read_rules


@dataclass(frozen=True, kw_only=True)
class MergeOptions(Options):
    """How captions are composed."""

    name: ClassVar[str] = "merge"

    absorb: tuple[str, ...] = option(
        [],
        "Tag that the subject always has: the trigger stands for it, so captions leave it out. 'smith=beard' for one "
        "subject. Commas separate several tags; or repeat it.",
        metavar="TAG",
    )
    remove: tuple[str, ...] = option(
        [],
        "Tag to leave out of every caption. 'word:hat' for all tags with that word, 'regex:^hat' for a pattern (RE2). "
        "Commas separate several tags; or repeat it.",
        metavar="TAG",
    )
    replace: tuple[str, ...] = option(
        [],
        "Tag to replace, such as 'hat=cap' or 'hat=cap, red'. 'word:gray=grey' for a word in tags and sentences, "
        "'regex:^(.*) hat$=\\1 cap' for a pattern (RE2). Repeat it for more tags.",
        metavar="OLD=NEW",
    )
    add: tuple[str, ...] = option(
        [], "Keyword to add to every caption. Commas separate several; or repeat it.", metavar="TAG"
    )
    groups: tuple[str, ...] = option(
        [],
        "Keywords for some images, by file name or id: 'smith-1*.jpg=full body, studio'. In prep.toml: [[group]] "
        "tables.",
        metavar="IMAGES=TAGS",
    )
    pinned: tuple[str, ...] = option(
        [],
        "Tag that comes first among the tags, where an image has it; several in the order given. For kohya's "
        "keep_tokens.",
        metavar="TAG",
    )
    template: str = option(
        DEFAULT_TEMPLATE,
        "Form of the caption. A part between commas is left out when all its placeholders are empty, and so is "
        "{trigger} in front of a sentence that says it.",
        metavar="TEXT",
    )
    prefix: str = option("", "Text for {prefix} in the template, at the start of the usual one.", metavar="TEXT")
    suffix: str = option("", "Text for {suffix} in the template, at the end of the usual one.", metavar="TEXT")
    trigger: str = option(
        "{token}", "Trigger of the subject; {token} and {class} are filled in from prep.toml.", metavar="TEXT"
    )
    threshold: float = option(
        0.0,
        "Lowest score of tags in captions, usually 0.25 to 0.5; 0: each model's own, or 0.35 where it has none.",
        low=0,
        high=1,
    )
    character_threshold: float = option(
        0.0,
        "Lowest score of tags that name a character, usually 0.85; 0: each model's own, or 0.85 where it has none.",
        low=0,
        high=1,
    )
    thresholds: tuple[str, ...] = option(
        [],
        "Lowest score for one tagger, model or category: 'wd14=0.4', 'wd14:wd-vit-tagger-v3=0.3', 'wd14/artist=0.9', "
        "'/character=0.8'. Repeat it for more.",
        metavar="WHICH=X",
    )
    mcut: bool = option(
        False,
        "Cut wd14's and deepdanbooru's tags at the largest gap between an image's scores (MCut), not at a fixed "
        "threshold.",
    )
    order: Literal["score", "name"] = option(
        "score", "Order of the tags: highest score first, tags without a score in their file's order; or alphabetical."
    )
    max_tags: int = option(0, "Most tags in a caption, those with the highest scores; 0: all.", low=0)
    max_tokens: int = option(
        0, "Most CLIP tokens in a caption, usually 75, one window; the last tags are left out. 0: no limit.", low=0
    )
    synonyms: bool = option(False, "Write synonyms as one tag, by the taxonomy.")
    drop_implied: bool = option(False, "Leave out tags that another tag of the image implies: hat by straw hat.")
    taxonomy: str = option(
        "",
        "TOML file that extends prep's own taxonomy of tags: synonyms, implications, protected tags.",
        cache_key=False,
        metavar="FILE",
    )
    swap_sides: bool = option(
        False,
        "Swap left and right in the captions of flipped copies, except in those of copies that you edited themselves.",
    )
    underscores: bool = option(False, "Write long_hair instead of long hair.")
    escape: bool = option(False, "Write \\( and \\) for parentheses in tags, as prompts with weights need.")

    def check(self) -> None:
        read_rules(self.thresholds)
        read_rewrites(self.replace, self.remove)
        parse_template(self.template)
        for rule in self.groups:
            KeywordGroup.read(rule)
        if self.mcut and (self.threshold or self.character_threshold):
            raise PrepError(
                "merge: mcut excludes threshold and character-threshold.",
                "Leave out --mcut, or the other two; --thresholds works with both.",
            )

    @property
    def tag_thresholds(self) -> Thresholds:
        """Which tags count."""
        return Thresholds(self.threshold, self.character_threshold, read_rules(self.thresholds), self.mcut)
