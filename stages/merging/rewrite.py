"""Rules that replace and remove words of captions: by whole tag, by whole word, or by regular expression."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import PrepError
from pipeline.tag_text import normalize_tag

How = Literal["tag", "word", "regex"]
FORMS = "'hat=cap' for a whole tag, 'word:gray=grey' for a word, 'regex:^(\\w+) hat$=\\1 cap' for a pattern"


@dataclass(frozen=True, slots=True)
class RewriteRule:
    """What to look for, and what comes in its place; None takes the tag out."""

    kind: How
    old: str  # a tag or word in prep's plain form, or a pattern
    new: str | None


def read_rewrites(replace: tuple[str, ...], remove: tuple[str, ...]) -> tuple[RewriteRule, ...]:
    """The rules as options give them: replacements in their order, then removals.

    'OLD=NEW' is split at its last equals sign. Patterns are RE2's, whose time grows with the length of the text
    and nothing else: there is none that hangs. PrepError for what is no rule, and for a pattern that RE2 refuses.
    """
    rules = []
    for text in replace:
        old, equals, new = text.rpartition("=")
        if not equals or not old.strip() or not new.strip():
            raise PrepError(f"merge: replace has {text!r}.", f"It must say what and by what: {FORMS}.")
        rules.append(_rule("replace", old, new.strip()))
    return (*rules, *(_rule("remove", text, None) for text in remove))


@functools.lru_cache(maxsize=100_000)
def rewrite_tag(tag: str, rules: tuple[RewriteRule, ...]) -> str | None:
    """A tag after the rules, each applied once and in order; None where one takes it out.

    Where no rule fits, it keeps its spelling; where one does, its plain form is what changes.
    """
    for rule in rules:
        changed = _MATCH[rule.kind](normalize_tag(tag), rule)
        if changed is None:
            continue
        if rule.new is None or not changed.strip():
            return None
        tag = " ".join(changed.split())
    return tag


@functools.lru_cache(maxsize=10_000)
def rewrite_sentence(text: str, rules: tuple[RewriteRule, ...]) -> str:
    """A sentence on one line after the rules that replace words and patterns, in upper or lower case.

    Rules for whole tags and those that remove concern tags alone.
    """
    for rule in rules:
        if rule.new is not None and rule.kind != "tag":
            changed = _MATCH[rule.kind](text, rule)
            text = text if changed is None else changed
    return " ".join(text.split())


def _rule(option: str, text: str, new: str | None) -> RewriteRule:
    how, _, rest = text.partition(":")
    if how == "word" and normalize_tag(rest):
        return RewriteRule("word", normalize_tag(rest), new)
    if how == "regex" and rest:
        return _tried(RewriteRule("regex", rest, new), option)
    return RewriteRule("tag", normalize_tag(text), new)


def _tried(rule: RewriteRule, option: str) -> RewriteRule:
    """A rule whose pattern was compiled; PrepError, in RE2's words, when it cannot be."""
    import pyarrow as pa

    try:
        _by_pattern("", rule)
    except pa.ArrowInvalid as error:
        about = str(error).partition(": ")[2].rstrip(".")
        raise PrepError(
            f"merge: {option} has the pattern {rule.old!r}, which cannot be used: {about}.",
            "Patterns are RE2's: groups and \\1 in NEW work; looking ahead or back and \\1 in the pattern do not.",
        ) from None
    return rule


def _by_tag(text: str, rule: RewriteRule) -> str | None:
    return (rule.new or "") if text == rule.old else None


def _by_word(text: str, rule: RewriteRule) -> str | None:
    """A word begins and ends where no letter, digit or underscore touches it: 'ass' is not in 'glasses'."""
    changed, times = _word(rule.old).subn(lambda _: rule.new or "", text)
    return changed if times else None


def _by_pattern(text: str, rule: RewriteRule) -> str | None:
    import pyarrow.compute as pc

    pattern = f"(?i){rule.old}"
    changed = pc.replace_substring_regex(text, pattern=pattern, replacement=rule.new or "").as_py()
    return str(changed) if pc.match_substring_regex(text, pattern=pattern).as_py() else None


@functools.lru_cache(maxsize=1000)
def _word(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)


# The text after a rule; None where the rule does not fit.
_MATCH: dict[How, Callable[[str, RewriteRule], str | None]] = {"tag": _by_tag, "word": _by_word, "regex": _by_pattern}
