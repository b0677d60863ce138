"""The taxonomy of tags: protected categories, body features, groups that exclude each other, implications, synonyms."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PrepError
from pipeline.options import refuse_unknown
from pipeline.tag_text import normalize_tag
from pipeline.text_files import TextFault, read_text

BUILT_IN = Path(__file__).with_name("tag_taxonomy.toml")
_SECTIONS = ("protected", "noise", "features", "exclusive", "implications", "synonyms")
_FIXED_KEYS = {"noise": ("tags",), "features": ("words", "tags")}  # the other sections' keys are free

TagLists = Mapping[str, tuple[str, ...]]
Sections = Mapping[str, TagLists]


@dataclass(frozen=True, slots=True)
class TagPatterns:
    """A set of tags; a star at one end of a tag stands for whole words."""

    whole: frozenset[str]
    prefixes: tuple[str, ...]  # 'looking ' for 'looking *'
    suffixes: tuple[str, ...]  # ' background' for '* background'

    @classmethod
    def of(cls, entries: Iterable[str]) -> TagPatterns:
        entries = list(entries)
        prefixes = tuple(entry[:-1] for entry in entries if entry.endswith(" *"))
        suffixes = tuple(entry[1:] for entry in entries if entry.startswith("* "))
        return cls(frozenset(e for e in entries if e[-2:] != " *" and e[:2] != "* "), prefixes, suffixes)

    def __contains__(self, tag: str) -> bool:
        return tag in self.whole or tag.startswith(self.prefixes) or tag.endswith(self.suffixes)


@dataclass(frozen=True, slots=True)
class TagTaxonomy:
    """What is known about tags; all methods take normalized tags."""

    protected: Mapping[str, TagPatterns]  # by category
    noise: TagPatterns
    features: TagPatterns
    exclusive: Mapping[str, frozenset[str]]  # by group
    synonyms: Mapping[str, str]  # from the other spellings to the one that captions use
    _parents: Mapping[str, frozenset[str]]
    _groups: Mapping[str, str]

    def protection(self, tag: str) -> str:
        """The category that protects a tag from being absorbed, such as 'framing'; empty if none does."""
        return next((category for category, patterns in self.protected.items() if tag in patterns), "")

    def group(self, tag: str) -> str:
        """The group of which a subject has only one tag, such as 'eye color'; empty if there is none."""
        return self._groups.get(tag, "")

    def parents(self, tag: str) -> frozenset[str]:
        """All that a tag implies, directly or not, without itself."""
        return self._parents.get(tag, frozenset())

    def is_feature(self, tag: str) -> bool:
        """Whether a tag names a part of the body: 'long hair', 'two side up'."""
        return tag in self.features


def read_taxonomy(path: Path | None = None) -> TagTaxonomy:
    """prep's own taxonomy, extended by the user's file; PrepError when that is broken or contradicts itself."""
    return _taxonomy(_built_in(), {} if path is None else _read(path))


@functools.cache
def _built_in() -> Sections:
    return _read(BUILT_IN)


def _read(path: Path) -> Sections:
    try:
        data = tomllib.loads(read_text(path))
    except FileNotFoundError:
        raise PrepError(f"There is no taxonomy {path}.", "Relative paths start at the workspace.") from None
    except TextFault as fault:
        raise PrepError(f"The taxonomy {path} {fault}.", "Save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise PrepError(f"The taxonomy {path} cannot be read: {error}.", "Correct that line.") from None
    refuse_unknown(data, _SECTIONS, str(path))
    return {name: _section(name, data[name], path) for name in data}


def _section(name: str, table: Any, path: Path) -> TagLists:
    where = f"{path}, [{name}]"
    if not isinstance(table, dict):
        raise PrepError(f"{where} is {table!r}.", f'It must be a table: [{name}], then "NAME" = ["TAG", ...].')
    if known := _FIXED_KEYS.get(name):
        refuse_unknown(table, known, where)
    for key, tags in table.items():
        if not isinstance(tags, list) or not all(isinstance(tag, str) and tag.strip() for tag in tags):
            raise PrepError(f"{where}: {key!r} is {tags!r}.", 'It must be a list of tags: ["long hair", "beard"].')
    keyed_by_tag = name in ("implications", "synonyms")
    return {normalize_tag(key) if keyed_by_tag else key: tuple(map(normalize_tag, tags)) for key, tags in table.items()}


def _taxonomy(own: Sections, more: Sections) -> TagTaxonomy:
    protected, noise, features, exclusive, implications, synonyms = (
        _joined(own.get(name, {}), more.get(name, {})) for name in _SECTIONS
    )
    words = features.get("words", ())
    return TagTaxonomy(
        {category: TagPatterns.of(tags) for category, tags in protected.items()},
        TagPatterns.of(noise.get("tags", ())),
        TagPatterns.of((*words, *(f"* {word}" for word in words), *features.get("tags", ()))),
        {name: frozenset(tags) for name, tags in exclusive.items()},
        _synonym_table(synonyms),
        {tag: _all_implied(tag, implications) for tag in implications},
        {tag: name for name, tags in exclusive.items() for tag in tags},
    )


def _joined(one: TagLists, other: TagLists) -> TagLists:
    """Both, key by key."""
    return {key: (*one.get(key, ()), *other.get(key, ())) for key in {**one, **other}}


def _synonym_table(synonyms: TagLists) -> Mapping[str, str]:
    """From every synonym to the tag that captions use; PrepError for a synonym of two tags."""
    table: dict[str, str] = {}
    for tag, others in synonyms.items():
        for other in others:
            second = "itself" if other in synonyms else table.get(other, tag)
            if second != tag:
                raise PrepError(
                    f"The taxonomy lists {other!r} as a synonym of both {tag!r} and {second}.",
                    "List each synonym once, and give it no synonyms of its own.",
                )
            table[other] = tag
    return table


def _all_implied(tag: str, implications: TagLists) -> frozenset[str]:
    """All that a tag implies, step by step; PrepError when it implies itself."""
    implied: set[str] = set()
    waiting = [*implications[tag]]
    while waiting:
        parent = waiting.pop()
        if parent == tag:
            raise PrepError(f"In the taxonomy {tag!r} implies itself.", "Remove one of these implications.")
        if parent not in implied:
            implied.add(parent)
            waiting += implications.get(parent, ())
    return frozenset(implied)
