"""How tags are spelled: as Danbooru writes them, as captions want them, as prep compares them, as terminals bear."""

from __future__ import annotations

# Emoticons whose underscores are part of the drawing, not spaces between words (SmilingWolf's tag lists).
KAOMOJI = frozenset(
    "0_0 (o)_(o) +_+ +_- ._. <o>_<o> <|>_<|> =_= >_< 3_3 6_9 >_o @_@ ^_^ o_o u_u x_x |_| ||_||".split()  # noqa: SIM905
)


def spell(tag: str, underscores: bool = False, escape: bool = False) -> str:
    """A tag as a caption shows it: 'long hair', 'long_hair' or 'cat \\(animal\\)'."""
    if tag not in KAOMOJI:
        tag = tag.replace(" ", "_") if underscores else tag.replace("_", " ")
    return tag.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)") if escape else tag


def plain(tag: str) -> str:
    """The form in which tags are compared: '1boy', ' 1boy ' and '1Boy' are one, so are 'long_hair' and 'long hair'."""
    return spell(tag.strip().lower())


def printable(text: str) -> str:
    """`text` on one line, control characters as escapes: file names and captions must not command a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
