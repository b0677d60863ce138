"""What tags are: kinds that stay changeable, parts of a body, groups that exclude each other, what implies what."""

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

BUILT_IN = Path(__file__).with_name("tag_taxonomy.toml")
_SECTIONS = ("protected", "noise", "features", "exclusive", "implications", "synonyms")
_LISTS = {"noise": ("tags",), "features": ("words", "tags")}  # sections with these keys; the others name their own

Lists = Mapping[str, tuple[str, ...]]
Tables = Mapping[str, Lists]


@dataclass(frozen=True, slots=True)
class TagPatterns:
    """A set of tags, some of them with a star for whole words at one end."""

    whole: frozenset[str]
    prefixes: tuple[str, ...]  # 'looking ' for 'looking *'
    suffixes: tuple[str, ...]  # ' background' for '* background'

    @classmethod
    def of(cls, entries: Iterable[str]) -> TagPatterns:
        entries = list(entries)
        heads = tuple(entry[:-1] for entry in entries if entry.endswith(" *"))
        tails = tuple(entry[1:] for entry in entries if entry.startswith("* "))
        return cls(frozenset(e for e in entries if e[-2:] != " *" and e[:2] != "* "), heads, tails)

    def __contains__(self, tag: str) -> bool:
        return tag in self.whole or tag.startswith(self.prefixes) or tag.endswith(self.suffixes)


@dataclass(frozen=True, slots=True)
class TagTaxonomy:
    """The table of tag kinds; all questions take tags in prep's plain form."""

    protected: Mapping[str, TagPatterns]
    noise: TagPatterns
    features: TagPatterns
    exclusive: Mapping[str, frozenset[str]]  # by the name of the group
    synonyms: Mapping[str, str]  # from what means the same to what is written
    _parents: Mapping[str, frozenset[str]]
    _groups: Mapping[str, str]

    def protection(self, tag: str) -> str:
        """The kind that keeps a tag from being absorbed, such as 'framing'; empty if none does."""
        return next((kind for kind, terms in self.protected.items() if tag in terms), "")

    def group(self, tag: str) -> str:
        """The group of tags of which a subject has only one, such as 'eye color'; empty if there is none."""
        return self._groups.get(tag, "")

    def parents(self, tag: str) -> frozenset[str]:
        """All that a tag implies, directly or not, without itself."""
        return self._parents.get(tag, frozenset())

    def is_feature(self, tag: str) -> bool:
        """Whether a tag names a part of a body: 'long hair', 'two side up'."""
        return tag in self.features


def read_taxonomy(path: Path | None = None) -> TagTaxonomy:
    """prep's own table, extended by the user's file; PrepError when that one is broken or contradicts itself."""
    own = _built_in()
    return _taxonomy(own, {}) if path is None else _taxonomy(own, _read(path))


@functools.cache
def _built_in() -> Tables:
    return _read(BUILT_IN)


def _read(path: Path) -> Tables:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PrepError(f"There is no table of kinds {path}.", "A relative path starts at the workspace.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PrepError(f"{path} cannot be read: {error}.", "Mend that line.") from None
    refuse_unknown(data, _SECTIONS, str(path))
    return {name: _section(name, data[name], path) for name in data}


def _section(name: str, table: Any, path: Path) -> Lists:
    where = f"{path}, [{name}]"
    if not isinstance(table, dict):
        raise PrepError(f"{where} is {table!r}.", f'It must be a table: [{name}], then "NAME" = ["TAG", ...].')
    if known := _LISTS.get(name):
        refuse_unknown(table, known, where)
    for key, tags in table.items():
        if not isinstance(tags, list) or not all(isinstance(tag, str) and tag.strip() for tag in tags):
            raise PrepError(f"{where}: {key!r} is {tags!r}.", 'It must be a list of tags: ["long hair", "beard"].')
    keyed_by_tag = name in ("implications", "synonyms")
    return {normalize_tag(key) if keyed_by_tag else key: tuple(map(normalize_tag, tags)) for key, tags in table.items()}


def _taxonomy(own: Tables, more: Tables) -> TagTaxonomy:
    protected, noise, features, exclusive, implications, synonyms = (
        _joined(own.get(name, {}), more.get(name, {})) for name in _SECTIONS
    )
    words = features.get("words", ())
    return TagTaxonomy(
        {kind: TagPatterns.of(tags) for kind, tags in protected.items()},
        TagPatterns.of(noise.get("tags", ())),
        TagPatterns.of((*words, *(f"* {word}" for word in words), *features.get("tags", ()))),
        {name: frozenset(tags) for name, tags in exclusive.items()},
        _synonym_table(synonyms),
        {tag: _all_implied(tag, implications) for tag in implications},
        {tag: name for name, tags in exclusive.items() for tag in tags},
    )


def _joined(one: Lists, other: Lists) -> Lists:
    """Both, key by key; nothing of either is lost."""
    return {key: (*one.get(key, ()), *other.get(key, ())) for key in {**one, **other}}


def _synonym_table(synonyms: Lists) -> Mapping[str, str]:
    """From every other word to the one that is written; PrepError where that is itself another's synonym."""
    found: dict[str, str] = {}
    for written, others in synonyms.items():
        for other in others:
            if other in synonyms or found.get(other, written) != written:
                rival = other if other in synonyms else found[other]
                raise PrepError(
                    f"The table of kinds calls {other!r} a synonym of {written!r} and also one of its own, {rival!r}.",
                    "Write each synonym under one word.",
                )
            found[other] = written
    return found


def _all_implied(tag: str, implications: Lists) -> frozenset[str]:
    """All that is implied, step by step; PrepError when a tag implies itself."""
    found: set[str] = set()
    waiting = [*implications[tag]]
    while waiting:
        parent = waiting.pop()
        if parent == tag:
            raise PrepError(f"The table of kinds lets {tag!r} imply itself.", "Take one of these implications out.")
        if parent not in found:
            found.add(parent)
            waiting += implications.get(parent, ())
    return frozenset(found)
