"""Forms of a tag's text: Danbooru's, a caption's, the one for comparison, and one that is safe to print."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

# Emoticons whose underscores are not spaces between words (from SmilingWolf's tag lists).
KAOMOJI = frozenset(
    "0_0 (o)_(o) +_+ +_- ._. <o>_<o> <|>_<|> =_= >_< 3_3 6_9 >_o @_@ ^_^ o_o u_u x_x |_| ||_||".split()  # noqa: SIM905
)

_BLANKS = " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f"  # the ASCII characters that str.strip removes


def format_tag(tag: str, underscores: bool = False, escape: bool = False) -> str:
    """A tag as it appears in a caption: 'long hair', 'long_hair' or 'cat \\(animal\\)'."""
    if tag not in KAOMOJI:
        tag = tag.replace(" ", "_") if underscores else tag.replace("_", " ")
    return tag.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)") if escape else tag


def normalize_tag(tag: str) -> str:
    """The form for comparing tags: '1boy', ' 1boy ' and '1Boy' are equal, as are 'long_hair' and 'long hair'."""
    return format_tag(tag.strip().lower())


def normalize_column(texts: pa.StringArray) -> pa.StringArray:
    """`normalize_tag` of each text; vectorized for ASCII, which nearly all tags are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    bare = pc.ascii_lower(pc.ascii_trim(texts, _BLANKS))
    faces = pc.is_in(bare, pa.array(sorted(KAOMOJI), pa.string()))
    spelled = pc.if_else(faces, bare, pc.replace_substring(bare, "_", " "))
    foreign = pc.invert(pc.string_is_ascii(texts))
    others = pa.array(map(normalize_tag, texts.filter(foreign).to_pylist()), pa.string())
    return pc.replace_with_mask(spelled, foreign, others)


def escape_control(text: str) -> str:
    """`text` on one line with control characters escaped, so that file names and captions cannot control a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
