"""Rules that replace and remove words in captions: by whole tag, by whole word, or by regular expression."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import PrepError
from pipeline.tag_text import normalize_tag, split_tags

MatchKind = Literal["tag", "word", "regex"]
FORMS = "'hat=cap' for a whole tag, 'word:gray=grey' for a word, 'regex:^(\\w+) hat$=\\1 cap' for a pattern"


@dataclass(frozen=True, slots=True)
class RewriteRule:
    """What to match, and its replacement; None removes the tag."""

    kind: MatchKind
    old: str  # a normalized tag or word, or a pattern
    new: str | None


def read_rewrites(replace: tuple[str, ...], remove: tuple[str, ...]) -> tuple[RewriteRule, ...]:
    """The rules as options give them: replacements in their order, then removals.

    'OLD=NEW' is split at its last equals sign. Patterns are RE2's, whose time is linear in the length of
    the text, so none can hang. PrepError for what is no rule, and for a pattern that RE2 refuses.
    """
    rules = []
    for text in replace:
        old, equals, new = text.rpartition("=")
        if not equals or not old.strip() or not new.strip():
            raise PrepError(f"merge: replace has {text!r}.", f"Write OLD=NEW: {FORMS}.")
        rules.append(_rule("replace", old, new.strip()))
    return (*rules, *(_rule("remove", text, None) for text in _removals(remove)))


@functools.lru_cache(maxsize=100_000)
def rewrite_tag(tag: str, rules: tuple[RewriteRule, ...]) -> str | None:
    """A tag after the rules, each applied once and in order; None where one removes it.

    A replacement may have commas: then it is several tags, and the rules after it apply to each. A tag that no rule
    matches keeps its spelling; rules match and change the normalized tag.
    """
    for number, rule in enumerate(rules, 1):
        changed = _APPLY[rule.kind](normalize_tag(tag), rule)
        if changed is None:
            continue
        if rule.new is None or not changed.strip():
            return None
        if len(parts := split_tags([changed])) > 1:
            return ", ".join(filter(None, (rewrite_tag(part, rules[number:]) for part in parts))) or None
        tag = " ".join(changed.split())
    return tag


@functools.lru_cache(maxsize=10_000)
def rewrite_sentence(text: str, rules: tuple[RewriteRule, ...]) -> str:
    """A sentence on one line after the rules that replace words and patterns, in upper or lower case.

    Rules for whole tags, and rules that remove, do not apply to sentences.
    """
    for rule in rules:
        if rule.new is not None and rule.kind != "tag":
            changed = _APPLY[rule.kind](text, rule)
            text = text if changed is None else changed
    return " ".join(text.split())


def _removals(texts: Iterable[str]) -> Iterator[str]:
    """The rules of the option `remove`: 'hat, cap' is two; words and patterns may have commas of their own."""
    for text in texts:
        yield from (text,) if text.startswith(("word:", "regex:")) else split_tags([text])


def swap_sides(text: str) -> str:
    """A text with left and right swapped, as whole words: 'left_hand' becomes 'right_hand', 'bright' stays."""
    return _SIDE.sub(lambda match: _OPPOSITE[match[0].lower()](match[0]), text)


def _like(word: str) -> Callable[[str], str]:
    """A function to `word` in the case of its argument: lower, upper or with a capital."""
    return lambda old: word.upper() if old.isupper() else word.capitalize() if old[0].isupper() else word


_SIDE = re.compile(r"(?<![^\W_])(?:left|right)(?![^\W_])", re.IGNORECASE)
_OPPOSITE = {"left": _like("right"), "right": _like("left")}


def _rule(option: str, text: str, new: str | None) -> RewriteRule:
    kind, _, rest = text.partition(":")
    if kind == "word" and normalize_tag(rest):
        return RewriteRule("word", normalize_tag(rest), new)
    if kind == "regex" and rest:
        return _checked(RewriteRule("regex", rest, new), option)
    return RewriteRule("tag", normalize_tag(text), new)


def _checked(rule: RewriteRule, option: str) -> RewriteRule:
    """The rule, after its pattern was compiled; PrepError with RE2's message when it cannot be."""
    import pyarrow as pa

    try:
        _by_pattern("", rule)
    except pa.ArrowInvalid as error:
        message = str(error).partition(": ")[2].rstrip(".")
        raise PrepError(
            f"merge: {option} has the pattern {rule.old!r}, which cannot be compiled: {message}.",
            "Patterns are RE2's: groups, and \\1 in NEW, work; lookahead, lookbehind and \\1 in the pattern do not.",
        ) from None
    return rule


def _by_tag(text: str, rule: RewriteRule) -> str | None:
    return (rule.new or "") if text == rule.old else None


def _by_word(text: str, rule: RewriteRule) -> str | None:
    """Whole words alone: no letter, digit or underscore is next to them, so 'ass' is not in 'glasses'."""
    changed, count = _word(rule.old).subn(lambda _: rule.new or "", text)
    return changed if count else None


def _by_pattern(text: str, rule: RewriteRule) -> str | None:
    import pyarrow.compute as pc

    pattern = f"(?i){rule.old}"
    changed = pc.replace_substring_regex(text, pattern=pattern, replacement=rule.new or "").as_py()
    return str(changed) if pc.match_substring_regex(text, pattern=pattern).as_py() else None


@functools.lru_cache(maxsize=1000)
def _word(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)


# The text after a rule; None where the rule does not match.
_APPLY: dict[MatchKind, Callable[[str, RewriteRule], str | None]] = {
    "tag": _by_tag,
    "word": _by_word,
    "regex": _by_pattern,
}
