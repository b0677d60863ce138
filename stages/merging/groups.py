"""Images that belong together: named in prep.toml by pattern or id, they share keywords."""

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
    """Keywords for the images that one pattern means."""

    pattern: str
    matcher: re.Pattern[str]
    keywords: tuple[str, ...]

    @classmethod
    def read(cls, rule: str) -> KeywordGroup:
        """From 'PATTERN=KEYWORD, KEYWORD'. Stars and question marks stand for any characters, as in a shell."""
        pattern, equals, words = rule.partition("=")
        keywords = tuple(word.strip() for word in words.split(",") if word.strip())
        if not equals or not pattern.strip() or not keywords:
            raise PrepError(
                f"merge: groups has {rule!r}.", "It must be images and keywords: 'photos/smith-1*.jpg=full body'."
            )
        return cls(pattern, re.compile(fnmatch.translate(pattern)), keywords)

    def contains(self, source: str, id: str) -> bool:
        """Whether an image is meant by the path or name of its file, its id, or that of the one it was made of."""
        names = (source, PurePosixPath(source).name, id, root_of(id))
        return any(self.matcher.match(name) for name in names)


def group_keywords(groups: tuple[KeywordGroup, ...], record: Record) -> list[str]:
    """The keywords of all groups that hold an image, each once."""
    return list(
        dict.fromkeys(word for group in groups if group.contains(record.source, record.id) for word in group.keywords)
    )


def check_groups(groups: tuple[KeywordGroup, ...], manifest: Manifest) -> None:
    """PrepError for a group that holds no image at all."""
    waiting = list(groups)
    if not waiting:
        return
    table = manifest.table(["source", "id"])
    for source, id in zip(table["source"].to_pylist(), table["id"].to_pylist(), strict=True):
        waiting = [group for group in waiting if not group.contains(source, id)]
        if not waiting:
            return
    raise PrepError(
        f"No image fits the group {waiting[0].pattern!r}.",
        "Name files as prep preview shows them, or their ids; * stands for any characters.",
    )
