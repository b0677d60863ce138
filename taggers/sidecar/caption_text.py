"""From the text or JSON of caption files to tags and captions."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from pipeline.record import Annotation
from pipeline.tag_text import normalize_tag
from pipeline.text_files import TextFault

CaptionFormat = Literal["auto", "tags", "caption"]
SIGNATURE = "files"
MAX_ANNOTATIONS = 2000  # of one image; a file with more is no caption file
# Words that are common in sentences but not in lists of tags.
_LITTLE = frozenset("a an the is are was were has have his her their its there it he she they while".split())  # noqa: SIM905
# Words that sentences are joined with, and that no list of tags separated by spaces has, as its tags have underscores.
_JOINING = _LITTLE | frozenset("of in on at to by for from with and or".split())  # noqa: SIM905
_TAG_WORD = re.compile(r"\w[^\s_]*_\S*\w|[0-9]\+?(?:girl|boy|other)s?", re.IGNORECASE)  # long_hair, 1girl
_END = re.compile(r"\w\.[\"')\u201d\u2019]*$|\u3002$")  # the second is the full stop of Chinese and Japanese
_SPLIT = re.compile(r"\|\|\||[,\uff0c\n]")  # ||| is kohya's keep_tokens_separator; the other is the full-width comma
_CATEGORIES = ("general", "character", "copyright", "artist", "meta", "species")
# Keys of tags in JSON objects, and their category. Those with a category come first, as 'tags' repeats them.
_TAG_KEYS = {
    **{f"tag_string_{category}": category for category in _CATEGORIES},  # Danbooru
    **{f"tags_{category}": category for category in _CATEGORIES},  # gallery-dl
    "tag_string": "general",
    "tags": "general",
}
_CAPTION_KEYS = ("caption", "captions", "description")
_TEXT_KEYS = ("text", "prompt")  # tags or a caption, as is_sentence decides


def from_text(text: str, format: CaptionFormat) -> list[Annotation]:
    """The tags and captions of a text file, line by line."""
    return unique_annotations(annotation for line in text.splitlines() for annotation in _line(line, format))


def from_json(text: str, format: CaptionFormat) -> list[Annotation]:
    """The tags and captions in the JSON file of one image."""
    return from_value(parse_json(text), format)


def from_value(value: Any, format: CaptionFormat) -> list[Annotation]:
    """The tags and captions in a JSON value: a text, a list, or an object with the usual keys."""
    if isinstance(value, str):
        return from_text(value, format)
    if isinstance(value, list):
        texts = [item for item in value if isinstance(item, str)]
        sentences = format == "caption" or (format == "auto" and is_sentence(", ".join(map(clean, texts))))
        return unique_annotations(map(_caption, texts) if sentences else _tags(value, "general"))
    if not isinstance(value, dict):
        return []
    annotations: list[Annotation] = []
    for key in _CAPTION_KEYS:
        inner = value.get(key)
        for item in inner if isinstance(inner, list) else [inner]:
            if isinstance(item, str):
                annotations += from_text(item, "caption" if format == "auto" else format)
    for key in _TEXT_KEYS:
        if isinstance(value.get(key), str | list):
            annotations += from_value(value[key], format)
    for key, category in _TAG_KEYS.items():
        if format == "caption" and isinstance(value.get(key), str):
            annotations += from_text(value[key], format)
        else:
            annotations += _tags(value.get(key), category)
    return unique_annotations(annotations)


def parse_json(text: str) -> Any:
    """A JSON value; TextFault for anything else, and for JSON that is nested too deeply for a parser."""
    try:
        return json.loads(text)
    except RecursionError:
        raise TextFault("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise TextFault(f"is not JSON: {error.msg}, line {error.lineno}") from None
    except ValueError:  # a number of thousands of digits
        raise TextFault("has a number that is too long") from None


def is_sentence(line: str) -> bool:
    """Whether a line is a caption rather than a list of tags.

    A line without commas is a caption if it has four words or begins with an article. A line with commas is one if
    it has four words and ends with a full stop, if a part of more than six words has two thirds of all words, or
    if at least half of its parts have words such as 'a', 'the' or 'is' and parts have three words on average.
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


def are_spaced_tags(line: str) -> bool:
    """Whether a line is a list of tags separated by spaces, as Danbooru writes them: '1girl long_hair solo'.

    It has no comma, no word that sentences are joined with, and at least one tag with an underscore, or 1girl.
    """
    words = line.split()
    if len(words) < 2 or len(_SPLIT.split(line)) > 1 or any(word.lower() in _JOINING for word in words):
        return False
    return any(map(_TAG_WORD.fullmatch, words)) and not _END.search(line.strip())


def clean(text: str) -> str:
    """A text on one line, without control characters and surrogates, which UTF-8 cannot encode."""
    kept = (" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text)
    return " ".join("".join(kept).replace("\ufeff", "").split())


def unique_annotations(annotations: Iterable[Annotation]) -> list[Annotation]:
    """Each tag and caption once, the first of equal ones; TextFault when there are too many."""
    kept: dict[tuple[str, str], Annotation] = {}
    for annotation in annotations:
        if annotation.text:
            text = normalize_tag(annotation.text) if annotation.kind == "tag" else annotation.text
            kept.setdefault((annotation.kind, text), annotation)
    if len(kept) > MAX_ANNOTATIONS:
        raise TextFault(f"has {len(kept):,} tags and captions of one image; the limit is {MAX_ANNOTATIONS:,}")
    return list(kept.values())


def _line(line: str, format: CaptionFormat) -> Iterator[Annotation]:
    line = clean(line)
    if format != "caption" and are_spaced_tags(line):
        for word in line.split():
            yield _tag(word, "general", None)
    elif format == "caption" or (format == "auto" and is_sentence(line)):
        yield _caption(line)
    else:
        for part in _SPLIT.split(line):
            yield _tag(part, "general", None)


def _tags(value: Any, category: str, deep: bool = True) -> Iterator[Annotation]:
    """Tags in the formats of other tools: a text, a list, tags with scores, or tags by category."""
    if isinstance(value, str):
        words = value.split()
        spaced = "," not in value and (len(words) > 3 or any("_" in word for word in words))  # as in a tag_string
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
    """A tag, without the backslashes that prompts with weights need before parentheses."""
    usable = type(score) in (int, float) and math.isfinite(score) and 0 <= score <= 1
    text = re.sub(r"\\([()\\])", r"\1", clean(text))
    return Annotation(text, "tag", category, round(float(score), 4) if usable else None, SIGNATURE)


def _caption(text: str) -> Annotation:
    return Annotation(clean(text), "caption", "", None, SIGNATURE)
