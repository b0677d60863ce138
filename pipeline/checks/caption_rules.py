"""What is wrong with captions, one at a time: empty, without the trigger, too long, misread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pipeline.checks.finding import RawFinding
from pipeline.checks.rule_context import CaptionPage, RuleContext
from pipeline.tag_text import escape_control

if TYPE_CHECKING:
    import numpy as np


def empty(page: CaptionPage, context: RuleContext) -> Iterator[RawFinding]:
    """Captions of nothing but spaces."""
    import pyarrow.compute as pc

    bare = pc.equal(pc.utf8_trim_whitespace(pc.fill_null(page.columns.column("caption"), "")), "")
    yield RawFinding(
        "error",
        "empty caption",
        "The caption is empty: kohya's trainer stops at it, prep's shows the folder's name to the model instead.",
        'Write one: prep edit NAME --set "..."; or leave the image out: prep edit NAME --drop',
        page.columns.rows[bare.to_numpy(zero_copy_only=False)],
    )


def trigger_missing(page: CaptionPage, context: RuleContext) -> Iterator[RawFinding]:
    """Captions of a subject's images that do not name it."""
    subjects, tokens = page.columns.words("subject")
    shown = ~page.columns.equal("role", "reg")
    for number, token in enumerate(tokens):
        if token and context.expects_trigger:
            mine = shown & (subjects == number)
            yield RawFinding(
                "error",
                "trigger missing",
                f"The caption does not name {escape_control(token)!r}, so what the image shows is bound to other words.",
                f'prep edit NAME --add "{escape_control(token)}"',
                page.columns.rows[mine & ~_naming(page, token)],
            )


def subject_in_regularization(page: CaptionPage, context: RuleContext) -> Iterator[RawFinding]:
    """Regularization captions that name a subject: they teach the model that anybody is the subject."""
    prior = page.columns.equal("role", "reg")
    for token in sorted(context.subjects) if prior.any() else ():
        yield RawFinding(
            "error",
            "subject in regularization",
            f"A regularization image's caption names {escape_control(token)!r}: the model would learn that others are it.",
            f'prep edit NAME --remove "{escape_control(token)}", or take the image out of the folder',
            page.columns.rows[prior & _naming(page, token)],
        )


def class_missing(page: CaptionPage, context: RuleContext) -> Iterator[RawFinding]:
    """Regularization captions without the class that they should keep."""
    prior = page.columns.equal("role", "reg")
    classes, names = page.columns.words("class_name")
    for number, name in enumerate(names) if prior.any() else ():
        if name:
            yield RawFinding(
                "warning",
                "class missing",
                f"A regularization image's caption does not name its class, {escape_control(name)!r}: "
                "it keeps the model from forgetting something else.",
                f'prep edit NAME --add "{escape_control(name)}"',
                page.columns.rows[prior & (classes == number) & ~_naming(page, name)],
            )


def too_long(page: CaptionPage, context: RuleContext) -> Iterator[RawFinding]:
    """Captions of more tokens than the model is told."""
    limit = context.targets.max_tokens
    longer = "" if limit >= 225 else f"; or let training read more: --max-token-length {limit + 75}"
    yield RawFinding(
        "warning",
        "caption too long",
        f"The caption has more than {limit} CLIP tokens; the model never sees its end.",
        f"prep merge --max-tokens {limit}{longer}",
        page.columns.rows[page.parts.tokens > limit],
    )


def absorbed_still_there(page: CaptionPage, context: RuleContext) -> Iterator[RawFinding]:
    """Captions that say what the trigger alone shall stand for."""
    subjects, tokens = page.columns.words("subject")
    for number, token in enumerate(tokens):
        mine = subjects == number
        for tag in sorted(context.absorbed.get(token, ())):
            said = page.parts.captions_with(page.parts.contains(tag), len(page.columns))
            yield RawFinding(
                "warning",
                "absorbed tag still there",
                f"{escape_control(tag)!r} is absorbed into {escape_control(token)!r}, and yet the caption says it: "
                "the feature stays bound to the word.",
                f"A sentence or an edit brought it in: prep edit NAME --replace {_quoted(tag)} '...'",
                page.columns.rows[mine & said],
            )


def second_line(page: CaptionPage, context: RuleContext) -> Iterator[RawFinding]:
    """Captions of several lines, or with signs that nobody sees."""
    import pyarrow.compute as pc

    caption = page.columns.column("caption")
    for pattern, message in (
        (r"[^\s][\r\n]+\s*[^\s]", "The caption has a second line: kohya's reader ignores it."),
        (
            r"[\x{feff}\x{200b}-\x{200f}\x{2028}-\x{202e}\x{2060}\x00-\x08\x0e-\x1f\x7f]",
            "The caption holds signs that nobody sees (a byte order mark, zero-width or control characters): "
            "the model reads them as tokens.",
        ),
        (r"\|\|\|", "The caption holds '|||', and training is not told that this ends the part that stays in place."),
    )[: 2 if context.targets.keep_separator == "|||" else 3]:
        found = pc.fill_null(pc.match_substring_regex(caption, pattern), False).to_numpy(zero_copy_only=False)
        yield RawFinding("warning", "caption misread", message, 'prep edit NAME --set "..."', page.columns.rows[found])


def untidy(page: CaptionPage, context: RuleContext) -> Iterator[RawFinding]:
    """Captions with an empty tag, or the same tag twice."""
    import numpy as np
    import pyarrow.compute as pc

    chunks, count = page.parts, len(page.columns)
    some = np.bincount(chunks.rows, minlength=count) > 1
    bare = pc.equal(pc.ascii_trim(chunks.texts, ","), "").to_numpy(zero_copy_only=False)
    hollow = chunks.captions_with(bare, count)
    pairs = chunks.pairs()
    twice = np.zeros(count, bool)
    twice[pairs[1:][pairs[1:] == pairs[:-1]] // max(1, len(chunks.texts))] = True
    for rows, message in (
        (hollow & some, "The caption has an empty tag: two commas with nothing between, or one at an end."),
        (twice & ~hollow, "The caption says the same tag twice."),
    ):
        yield RawFinding("note", "untidy caption", message, 'prep edit NAME --set "..."', page.columns.rows[rows])


def _naming(page: CaptionPage, phrase: str) -> np.ndarray:
    """Which captions hold a phrase as whole words."""
    import pyarrow.compute as pc

    if "," not in phrase:
        return page.parts.captions_with(page.parts.contains(phrase), len(page.columns))
    found = pc.match_substring(page.columns.column("caption"), phrase, ignore_case=True)  # it lies in several pieces
    result: np.ndarray = pc.fill_null(found, False).to_numpy(zero_copy_only=False)
    return result


def _quoted(text: str) -> str:
    return "'" + escape_control(text).replace("'", "") + "'"


RULES: tuple[Callable[[CaptionPage, RuleContext], Iterator[RawFinding]], ...] = (
    empty,
    trigger_missing,
    subject_in_regularization,
    second_line,
    class_missing,
    absorbed_still_there,
    too_long,
    untidy,
)
