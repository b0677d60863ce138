"""What is wrong with a trigger: a word that the model knows, one that falls into many pieces, the class itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.checks.dataset_arrays import DatasetArrays
from pipeline.checks.finding import RawFinding
from pipeline.checks.rule_context import RuleContext
from pipeline.clip_tokens import WORD_END, Tokens
from pipeline.tag_text import escape_control, normalize_tag

# CLIP numbers its words by how common they are: 'man' is 786, 'apron' 29502, 'sks' 48136.
KNOWN_WELL = 40_000
MANY = 3  # pieces of a trigger from which on it is hard to learn and long to write


def trigger_is_a_word(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Triggers that are whole words of CLIP's vocabulary, and common ones."""
    tokens = Tokens.load()
    for token in sorted(context.subjects):
        pieces, ids = tokens.pieces(token), tokens.ids(token)
        if (
            pieces
            and all(piece.endswith(WORD_END) and piece[0].isalpha() for piece in pieces)
            and max(ids) < KNOWN_WELL
        ):
            word = f"{escape_control(token)!r} is a whole word of CLIP's vocabulary (number {ids[0]:,} of 49,408 by how common)"
            words = f"{escape_control(token)!r} is made of whole words of CLIP's vocabulary"
            yield RawFinding(
                "warning",
                "trigger is a common word",
                f"{word if len(pieces) == 1 else words}: the model has an image of it already, "
                "and training must overwrite that first.",
                "Take a rare name as the token in prep.toml, such as one that falls into two pieces: 'smthx'",
            )


def trigger_splits(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Triggers that CLIP cuts into many pieces."""
    for token in sorted(context.subjects):
        pieces = Tokens.load().pieces(token)
        if len(pieces) > MANY:
            shown = ", ".join(escape_control(piece.removesuffix(WORD_END)) for piece in pieces)
            yield RawFinding(
                "warning",
                "trigger splits badly",
                f"{escape_control(token)!r} falls into {len(pieces)} CLIP tokens ({shown}): each means something else "
                "to the model, and every caption is that much longer.",
                f"Take a token of at most {MANY} pieces; digits and signs are a piece each",
            )


def trigger_is_the_class(arrays: DatasetArrays, context: RuleContext) -> Iterator[RawFinding]:
    """Triggers that are a class of the set: then nothing tells the subject from the others."""
    classes = {normalize_tag(name) for name in arrays.classes}
    for token in sorted(context.subjects):
        if normalize_tag(token) in classes:
            yield RawFinding(
                "warning",  # row A7 knows such sets: '10_1girl'
                "trigger is the class",
                f"{escape_control(token)!r} is the subject's token and a class: the subject cannot be told from its class.",
                "Give the subject a token of its own in prep.toml",
            )


RULES: tuple[Callable[[DatasetArrays, RuleContext], Iterator[RawFinding]], ...] = (
    trigger_is_the_class,
    trigger_is_a_word,
    trigger_splits,
)
