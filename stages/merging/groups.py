"""Groups of images, named by pattern or id in prep.toml, that share keywords."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from pipeline.record import Record, root_of

if TYPE_CHECKING:
    from pipeline.manifest import Manifest


@dataclass(frozen=True, slots=True)
class KeywordGroup:
    """Keywords for the images that a pattern matches."""

    pattern: str
    matcher: re.Pattern[str]
    keywords: tuple[str, ...]

    @classmethod
    def read(cls, rule: str) -> KeywordGroup:
        """From 'PATTERN=KEYWORD, KEYWORD'; * and ? are wildcards, as in a shell."""
        pattern, equals, words = rule.partition("=")
        keywords = tuple(word.strip() for word in words.split(",") if word.strip())
        if not equals or not pattern.strip() or not keywords:
            raise PrepError(
                f"merge: groups has {rule!r}.", "Give images and keywords: --groups 'photos/smith-1*.jpg=full body'"
            )
        return cls(pattern, re.compile(fnmatch.translate(pattern)), keywords)

    def contains(self, source: str, id: str) -> bool:
        """Whether the pattern matches the path or name of an image's file, its id, or the id of its original."""
        names = (source, PurePosixPath(source).name, id, root_of(id))
        return any(self.matcher.match(name) for name in names)


def group_keywords(groups: tuple[KeywordGroup, ...], record: Record) -> list[str]:
    """The keywords of all groups that contain an image, each once."""
    return list(
        dict.fromkeys(word for group in groups if group.contains(record.source, record.id) for word in group.keywords)
    )


def check_groups(groups: tuple[KeywordGroup, ...], manifest: Manifest) -> None:
    """PrepError for a group that contains no image."""
    empty = list(groups)
    if not empty:
        return
    table = manifest.table(["source", "id"])
    for source, id in zip(table["source"].to_pylist(), table["id"].to_pylist(), strict=True):
        empty = [group for group in empty if not group.contains(source, id)]
        if not empty:
            return
    raise PrepError(
        f"merge: the group {empty[0].pattern!r} matches no image.",
        "Use file names or ids as 'prep preview crop' shows them; * matches any characters.",
    )
