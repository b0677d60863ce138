"""What caption files say: text and JSON as tags and sentences; what cannot be read is a fault with its reason."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from pipeline.record import Annotation
from pipeline.tag_text import normalize_tag

CaptionFormat = Literal["auto", "tags", "caption"]
SIGNATURE = "files"
MAX_ANNOTATIONS = 2000  # things said of one image; a file that says more is not a caption
# Words that sentences are full of and lists of tags are not.
_LITTLE = frozenset("a an the is are was were has have his her their its there it he she they while".split())  # noqa: SIM905
_END = re.compile(r"\w\.[\"')\u201d\u2019]*$|\u3002$")  # the second where words have no spaces between them
_SPLIT = re.compile(r"\|\|\||[,\uff0c\n]")  # ||| fixes kohya's first tokens; the other is the full-width comma
_CATEGORIES = ("general", "character", "copyright", "artist", "meta", "species")
# Keys of JSON objects that hold tags, and the tags' category. Those that name one stand first: 'tags' repeats them.
_TAG_KEYS = {
    **{f"tag_string_{category}": category for category in _CATEGORIES},  # Danbooru
    **{f"tags_{category}": category for category in _CATEGORIES},  # gallery-dl
    "tag_string": "general",
    "tags": "general",
}
_CAPTION_KEYS = ("caption", "captions", "description")
_TEXT_KEYS = ("text", "prompt")  # may hold either: the rule decides


class CaptionFault(Exception):
    """Why a file says nothing, in words that follow its name."""


def decode(data: bytes) -> str:
    """A file's text, which must be UTF-8, with or without a byte order mark; a Fault names what it is instead."""
    for mark, name in (
        (b"\xff\xfe\0\0", "UTF-32"),
        (b"\0\0\xfe\xff", "UTF-32"),
        (b"\xff\xfe", "UTF-16"),
        (b"\xfe\xff", "UTF-16"),
    ):
        if data.startswith(mark):
            raise CaptionFault(f"is {name}, not UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CaptionFault(f"is not UTF-8: byte 0x{data[error.start]:02x} at {error.start}") from None
    if "\0" in text:
        raise CaptionFault("holds zero bytes, as UTF-16 without a byte order mark does")
    return text


def from_text(text: str, form: CaptionFormat) -> list[Annotation]:
    """What a text file says, line by line: a list of tags, or a caption."""
    return unique_annotations(one for line in text.splitlines() for one in _line(line, form))


def from_json(text: str, form: CaptionFormat) -> list[Annotation]:
    """What a JSON file beside one image says."""
    return from_value(parse_json(text), form)


def from_value(value: Any, form: CaptionFormat) -> list[Annotation]:
    """What a JSON value says of one image: a text, a list, or an object with keys that captions have."""
    if isinstance(value, str):
        return from_text(value, form)
    if isinstance(value, list):
        texts = [item for item in value if isinstance(item, str)]
        sentences = form == "caption" or (form == "auto" and is_sentence(", ".join(map(clean, texts))))
        return unique_annotations(map(_caption, texts) if sentences else _tags(value, "general"))
    if not isinstance(value, dict):
        return []
    said: list[Annotation] = []
    for key in _CAPTION_KEYS:
        inner = value.get(key)
        for item in inner if isinstance(inner, list) else [inner]:
            if isinstance(item, str):
                said += from_text(item, "caption" if form == "auto" else form)
    for key in _TEXT_KEYS:
        if isinstance(value.get(key), str | list):
            said += from_value(value[key], form)
    for key, category in _TAG_KEYS.items():
        if form == "caption" and isinstance(value.get(key), str):
            said += from_text(value[key], form)
        else:
            said += _tags(value.get(key), category)
    return unique_annotations(said)


def parse_json(text: str) -> Any:
    """A JSON value; a Fault for anything that is none, or that is built to break its reader."""
    try:
        return json.loads(text)
    except RecursionError:
        raise CaptionFault("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise CaptionFault(f"is not JSON: {error.msg}, line {error.lineno}") from None
    except ValueError:  # a number of thousands of digits
        raise CaptionFault("holds a number that is too long") from None


def is_sentence(line: str) -> bool:
    """Whether a line is a caption rather than a list of tags.

    A line without a comma is one from four words up, or if it begins with an article. A line with
    commas is one if it ends a sentence with a full stop after four words or more, if a part of more
    than six words holds two thirds of its words, or if half of its parts or more hold words such as
    'a', 'the', 'is' and they have three words on average.
    """
    parts = [words for part in _SPLIT.split(line) if (words := part.split())]
    if not parts:
        return False
    count = sum(map(len, parts))
    if _END.search(line.strip()) and (count >= 4 or line.strip().endswith("\u3002")):
        return True
    if len(parts) == 1:
        return count >= 4 or (count > 1 and parts[0][0].lower() in ("a", "an", "the"))
    longest = max(map(len, parts))
    little = sum(any(word.lower() in _LITTLE for word in words) for words in parts)
    return (longest > 6 and 3 * longest >= 2 * count) or (2 * little >= len(parts) and count >= 3 * len(parts))


def clean(text: str) -> str:
    """A text on one line, without control characters and halves of characters, which no file may hold."""
    kept = (" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text)
    return " ".join("".join(kept).replace("\ufeff", "").split())


def unique_annotations(said: Iterable[Annotation]) -> list[Annotation]:
    """Each thing once, as it was said first; a Fault when there are too many."""
    kept: dict[tuple[str, str], Annotation] = {}
    for one in said:
        if one.text:
            kept.setdefault((one.kind, normalize_tag(one.text) if one.kind == "tag" else one.text), one)
    if len(kept) > MAX_ANNOTATIONS:
        raise CaptionFault(f"says {len(kept):,} things of one image; {MAX_ANNOTATIONS:,} are taken at most")
    return list(kept.values())


def _line(line: str, form: CaptionFormat) -> Iterator[Annotation]:
    line = clean(line)
    if form == "caption" or (form == "auto" and is_sentence(line)):
        yield _caption(line)
    else:
        for part in _SPLIT.split(line):
            yield _tag(part, "general", None)


def _tags(value: Any, category: str, deep: bool = True) -> Iterator[Annotation]:
    """Tags in any form that tools write: a text, a list, tags with scores, or those by category, one level deep."""
    if isinstance(value, str):
        words = value.split()
        spaced = "," not in value and (len(words) > 3 or any("_" in word for word in words))  # as Danbooru writes them
        yield from (_tag(part, category, None) for part in (words if spaced else _SPLIT.split(value)))
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, str):
                yield _tag(item, category, None)
            elif isinstance(item, dict):
                name = next((item[key] for key in ("name", "tag", "label") if isinstance(item.get(key), str)), "")
                score = next((item[key] for key in ("score", "confidence", "probability") if key in item), None)
                yield _tag(name, category, score)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if not isinstance(inner, list | dict):
                yield from () if inner is False else (_tag(name, category, inner),)
            elif deep:
                yield from _tags(inner, name if name in _CATEGORIES else category, deep=False)


def _tag(text: str, category: str, score: Any) -> Annotation:
    """A tag without the backslashes that weighted prompts need before brackets."""
    usable = type(score) in (int, float) and math.isfinite(score) and 0 <= score <= 1
    text = re.sub(r"\\([()\\])", r"\1", clean(text))
    return Annotation(text, "tag", category, round(float(score), 4) if usable else None, SIGNATURE)


def _caption(text: str) -> Annotation:
    return Annotation(clean(text), "caption", "", None, SIGNATURE)
