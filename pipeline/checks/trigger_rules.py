"""Rules about triggers: a word that the model knows, one of many CLIP tokens, the class itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.checks.dataset_arrays import DatasetArrays
from pipeline.checks.finding import RawFinding
from pipeline.checks.rule_context import RuleContext
from pipeline.clip_tokens import WORD_END, Tokens
from pipeline.tag_text import escape_control, normalize_tag

# CLIP numbers its tokens by frequency: 'man' is 786, 'apron' 29502, 'sks' 48136.
COMMON_BELOW = 40_000
MOST_TOKENS = 3  # CLIP tokens of a trigger that is easy to learn


def trigger_is_a_word(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Triggers that are common whole words of CLIP's vocabulary."""
    tokens = Tokens.load()
    for token in sorted(context.subjects):
        pieces, ids = tokens.pieces(token), tokens.ids(token)
        if (
            pieces
            and all(piece.endswith(WORD_END) and piece[0].isalpha() for piece in pieces)
            and max(ids) < COMMON_BELOW
        ):
            shown = repr(escape_control(token))
            word = f"{shown} is a whole word of CLIP's vocabulary (number {ids[0]:,} of 49,408 by frequency)"
            words = f"{shown} consists of whole words of CLIP's vocabulary"
            yield RawFinding(
                "warning",
                "trigger is a common word",
                f"{word if len(pieces) == 1 else words}: the model already associates it with "
                "something, which training has to overwrite.",
                context.hint(
                    "Use a rare word as the token in prep.toml, such as 'ohwx'.",
                    "Use a rare word such as 'ohwx' in the folder's name and in its captions.",
                ),
            )


def trigger_splits(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Triggers that CLIP splits into many tokens."""
    for token in sorted(context.subjects):
        pieces = Tokens.load().pieces(token)
        if len(pieces) > MOST_TOKENS:
            shown = ", ".join(escape_control(piece.removesuffix(WORD_END)) for piece in pieces)
            yield RawFinding(
                "warning",
                "trigger splits badly",
                f"{escape_control(token)!r} is split into {len(pieces)} CLIP tokens ({shown}): each has a meaning "
                "of its own, and every caption is longer.",
                f"Use a word of at most {MOST_TOKENS} CLIP tokens; each digit or punctuation mark is one.",
            )


def trigger_is_the_class(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Triggers that are a class of the set: then nothing tells the subject from the others."""
    classes = {normalize_tag(name) for name in arrays.classes}
    for token in sorted(context.subjects):
        if normalize_tag(token) in classes:
            yield RawFinding(
                "warning",  # not an error: sets of a style or a class are laid out so, as '10_1girl'
                "trigger is the class",
                f"{escape_control(token)!r} is a subject's token and a class: prompts cannot tell the two apart.",
                context.hint(
                    "Give the subject another token in prep.toml, such as 'ohwx'.",
                    "Put a rare word such as 'ohwx' before the class in the folder's name and in its captions.",
                ),
            )


RULES: tuple[Callable[[DatasetArrays, RuleContext], Iterator[RawFinding]], ...] = (
    trigger_is_the_class,
    trigger_is_a_word,
    trigger_splits,
)
