"""The pictures that are kept out of training, to validate with, and the proof that none of them is trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.errors import PrepError
from pipeline.imaging.near_duplicates import near
from pipeline.split import Card, Split
from training.data.dataset import Sample

if TYPE_CHECKING:
    from training.evaluation.validation import Validation


@dataclass(frozen=True, slots=True)
class Held:
    """A data set in two parts that share no picture."""

    train: list[Sample]  # with the regularization pictures
    validation: list[Sample]


def hold_out(samples: list[Sample], options: Validation, seed: int) -> Held:
    """The data set in two parts: as build parted it, or as the options ask.

    PrepError when a validation picture is trained on too, or when the options want a validation
    that there is nothing for.
    """
    if options.validation_share:
        samples = _split(samples, options, seed)
    found = Held([s for s in samples if not s.held], [s for s in samples if s.held])
    if not found.validation and (options.patience or options.result == "best"):
        wish = "patience" if options.patience else "result best"
        raise PrepError(
            f"train: {wish} goes by the validation error, and no pictures are held out to validate with.",
            "Hold some out: prep build --validation 0.1, or prep train --validation-share 0.1",
        )
    check_leak(found, options.validation_near)
    return found


def check_leak(found: Held, bits: int) -> None:
    """PrepError when a validation picture is trained on: itself, a copy, or one within `bits` of its hash."""
    whole = {sample.pixels: sample for sample in found.train} | {_root(sample): sample for sample in found.train}
    twins = {s.id: whole.get(s.pixels) or whole.get(_root(s)) for s in found.validation}
    hashed = [sample for sample in found.train if sample.phash]
    asked = [sample for sample in found.validation if sample.phash]
    alike = near([sample.phash for sample in asked], [sample.phash for sample in hashed], bits)
    looks = {one.id: hashed[at] for one, at in zip(asked, alike, strict=True) if at is not None}
    leaks = [(one, twins[one.id] or looks[one.id]) for one in found.validation if twins[one.id] or one.id in looks]
    if not leaks:
        return
    one, other = leaks[0]
    how = "the same picture as" if twins[one.id] else "nearly the same picture as"
    raise PrepError(
        f"{len(leaks)} of {len(found.validation)} validation pictures are also trained on: "
        f"{one.name} is {how} {other.name}.",
        "What was seen validates nothing. Hold others out: prep build --validation 0.1",
    )


def _split(samples: list[Sample], options: Validation, seed: int) -> list[Sample]:
    """The same samples, a share of each subject's held out with all that looks like them."""
    if any(sample.held for sample in samples):
        raise PrepError(
            "train: validation_share has no effect on a data set that has validation pictures of its own.",
            "Leave it out, or build the set without: prep build --validation 0",
        )
    cards = [_card(sample) for sample in samples if not sample.reg]
    taken = Split("validation", options.validation_share, options.validation_near, seed).taken(cards)
    if not taken:
        raise PrepError(
            "train: validation_share takes no picture: all of a subject look alike, or there is only one.",
            "Leave it out, or add pictures.",
        )
    return [replace(s, held=True) if not s.reg and _root(s) in taken else s for s in samples]


def _card(sample: Sample) -> Card:
    # A picture that nobody hashed is like no other: its content stands for its look.
    look = sample.phash or sample.pixels[:16]
    return Card(sample.id, _root(sample), sample.subject, sample.class_name, "train", look)


def _root(sample: Sample) -> str:
    """The id of the user's picture that this one is, or is a copy of."""
    return sample.id.partition("-")[0]
