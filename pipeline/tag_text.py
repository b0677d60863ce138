"""Forms of a tag's text: Danbooru's, a caption's, the one for comparison, and one that is safe to print."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

# Emoticons whose underscores are not spaces between words (from SmilingWolf's tag lists).
KAOMOJI = frozenset(
    "0_0 (o)_(o) +_+ +_- ._. <o>_<o> <|>_<|> =_= >_< 3_3 6_9 >_o @_@ ^_^ o_o u_u x_x |_| ||_||".split()  # noqa: SIM905
)

# Tags of models that were trained on their underscores: Pony's score_9, source_anime, rating_safe, style_cluster_12.
_LITERAL = re.compile(
    r"score_[0-9]+(?:_up|_down)?|rating_(?:safe|questionable|explicit)|source_(?:anime|cartoon|furry|pony)"
    r"|style_cluster_[0-9]+",
    re.IGNORECASE,
)
# An emoticon is two halves around one underscore: of signs, or with one letter or digit and then alike (o_o, t_t).
_FACE = re.compile(r"(?P<left>[^\s_]{1,6})_(?P<right>[^\s_]{1,6})")
_WORDS = re.compile(r"[^\W_]{2}")
# RE2's form of what `keeps_underscores` is asked about: such a prefix, or no two letters or digits in a row.
_CANDIDATE = r"^(?:score|rating|source|style)_|^(?:[a-z0-9]?[^a-z0-9\s])*[a-z0-9]?$"

_BLANKS = " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f"  # the ASCII characters that str.strip removes


def format_tag(tag: str, underscores: bool = False, escape: bool = False) -> str:
    """A tag as it appears in a caption: 'long hair', 'long_hair' or 'cat \\(animal\\)'."""
    if not keeps_underscores(tag):
        tag = tag.replace(" ", "_") if underscores else tag.replace("_", " ")
    return tag.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)") if escape else tag


@functools.lru_cache(100_000)
def keeps_underscores(tag: str) -> bool:
    """Whether a tag's underscores are part of it: those of emoticons, and of score_9, source_anime and rating_safe.

    Emoticons are Danbooru's: SmilingWolf's list, and others of their form such as ;_; and t_t.
    """
    if "_" not in tag:
        return False
    if tag in KAOMOJI or _LITERAL.fullmatch(tag):
        return True
    halves = _FACE.fullmatch(tag)
    if halves is None or _WORDS.search(tag):
        return False
    left, right = halves["left"].lower(), halves["right"].lower()
    return left == right or not (left.isalnum() or right.isalnum())


def split_tags(texts: Iterable[str]) -> tuple[str, ...]:
    """The tags of texts such as 'green eyes, long sleeves', which commas separate; without empty ones."""
    return tuple(part.strip() for text in texts for part in text.split(",") if part.strip())


def normalize_tag(tag: str) -> str:
    """The form for comparing tags: '1boy', ' 1boy ' and '1Boy' are equal, as are 'long_hair' and 'long hair'."""
    return format_tag(tag.strip().lower())


def normalize_column(texts: pa.StringArray) -> pa.StringArray:
    """`normalize_tag` of each text; vectorized for ASCII, which nearly all tags are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    bare = pc.ascii_lower(pc.ascii_trim(texts, _BLANKS))
    spelled = pc.replace_substring(bare, "_", " ")
    foreign = pc.or_(pc.invert(pc.string_is_ascii(texts)), pc.match_substring_regex(bare, _CANDIDATE))
    others = pa.array(map(normalize_tag, texts.filter(foreign).to_pylist()), pa.string())
    return pc.replace_with_mask(spelled, foreign, others)


def escape_control(text: str) -> str:
    """`text` on one line with control characters escaped, so that file names and captions cannot control a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
