"""Prompt editing: which text a prompt has at each evaluation of the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from training.sampling.prompt.grammar import Alternating, Edited, Sequence, parse_editing


@dataclass(frozen=True, slots=True)
class Evaluations:
    """The evaluations of the model in one pass of sampling, of which prompt editing counts or takes shares."""

    count: int  # steps, or twice the steps for samplers of second order
    first_pass: int | None = None  # in the pass of hires fix: the evaluations of the pass before it


@dataclass(frozen=True, slots=True)
class ScheduledText:
    """A text, and the last evaluation of the model that uses it."""

    end: int  # counted as `select` does
    text: str


Schedule = tuple[ScheduledText, ...]


def schedule(prompt: str, evaluations: Evaluations) -> Schedule:
    """The texts that a prompt has in the course of sampling; a prompt without valid structure has one, literally.

    In the pass of hires fix, whole numbers count from the end of the first pass on, and its shares are 1 to 2.
    The rules are those of AUTOMATIC1111's WebUI 1.10.
    """
    pieces = parse_editing(prompt)
    if pieces is None:
        return (ScheduledText(evaluations.count, prompt),)
    ends = sorted({evaluations.count, *_changes(pieces, evaluations)})
    return tuple(ScheduledText(end, "".join(_text(pieces, end, evaluations))) for end in ends)


def select(ends: tuple[int, ...], evaluation: int) -> int:
    """The index of the entry for an evaluation, counted from 0: the first whose end is not below it.

    So an entry that ends at 3 is used four times, 0 to 3. Beyond the last end WebUI begins again with the first entry.
    """
    return next((index for index, end in enumerate(ends) if evaluation <= end), 0)


def _changes(pieces: Sequence, evaluations: Evaluations) -> Iterator[int]:
    """The evaluations after which the text may change."""
    for piece in pieces:
        if isinstance(piece, Edited):
            if (end := _end(piece, evaluations)) >= 1:
                yield end
            yield from _changes((*piece.before, *piece.after), evaluations)
        elif isinstance(piece, Alternating):
            yield from range(1, evaluations.count + 1)
            for choice in piece.choices:
                yield from _changes(choice, evaluations)


def _end(edited: Edited, evaluations: Evaluations) -> int:
    """The last evaluation with the text before; a number with a dot is a share, any other an evaluation."""
    hires = evaluations.first_pass is not None
    number = float(edited.when)
    if "." in edited.when:
        number = (number - hires) * evaluations.count
    else:
        number -= evaluations.first_pass or 0
    return int(min(max(number, -1.0), evaluations.count))


def _text(pieces: Sequence, evaluation: int, evaluations: Evaluations) -> Iterator[str]:
    """The text at an evaluation, counted from 1."""
    for piece in pieces:
        if isinstance(piece, str):
            yield piece
        elif isinstance(piece, Edited):
            before = evaluation <= _end(piece, evaluations)
            yield from _text(piece.before if before else piece.after, evaluation, evaluations)
        else:
            choice = piece.choices[(evaluation - 1) % len(piece.choices)]
            yield from _text(choice, evaluation, evaluations)
