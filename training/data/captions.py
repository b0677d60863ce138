"""What an image is captioned with at one draw: shuffled, thinned out or left empty, by the draw's own chance."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from pipeline.kohya_folders import caption_lines
from training.batch import SampleRef, TrainingImage
from training.data.sampler import seed_of
from training.models.family import TextSettings
from training.options.captions import CaptionOptions

_INNERMOST = re.compile(r"(?<!\\)\{((?:\\[{}]|[^{}])*)(?<!\\)\}")  # a choice without another one in it


def text_settings(options: CaptionOptions) -> TextSettings:
    """How text encoders read captions."""
    return TextSettings(options.max_token_length, options.clip_skip, options.weighted_captions)


def build_prompt(draw: SampleRef, captions: CaptionOptions, seed: int) -> str:
    """The prompt of one draw: the same for the same (seed, record id, number), whatever is drawn beside it.

    In this order: one line and its choices, dropout of the whole, dropout of tags, shuffling,
    prefix and suffix. So a caption left empty is empty, prefix and suffix included: it stands for
    what the model does without a prompt.
    """
    rng = random.Random(seed_of(seed, "caption", draw.image.id, draw.repeat))
    text = _select_line(draw.image.caption, captions, rng)
    every = captions.caption_dropout_every_n_epochs
    if rng.random() < captions.caption_dropout or (every and (draw.epoch + 1) % every == 0):
        return ""
    front, loose, end = split_caption(text, captions)
    loose = _drop_tags(loose, captions.tag_dropout, _ProtectedTags(draw.image.subject, bool(front or end)), rng)
    if captions.shuffle_caption:
        rng.shuffle(loose)
    return _join([*front, *loose, *end], captions)


def fixed_prompt(sample: TrainingImage, captions: CaptionOptions) -> str:
    """The prompt without any chance: the first line, the first of each choice, all tags in their order."""
    front, loose, end = split_caption(_select_line(sample.caption, captions, None), captions)
    return _join([*front, *loose, *end], captions)


def split_caption(text: str, captions: CaptionOptions) -> tuple[list[str], list[str], list[str]]:
    """A caption's tags: those kept in front, those that may move or go, those kept at the end."""
    separator = captions.keep_separator
    if separator and separator in text:
        front, loose, *end = text.split(separator, 2)
        return split_tags(front), split_tags(loose), split_tags(",".join(end).replace(separator, ","))
    tags = split_tags(text)
    kept = 0 if separator else captions.keep_tokens
    return tags[:kept], tags[kept:], []


def split_tags(text: str) -> list[str]:
    """A caption at its commas, but not at those within brackets: '(red, blue:1.2)' is one thing.

    A bracket after a backslash is a plain sign, and all are where they do not pair. Empty tags are none.
    """
    pieces = _split_outside(text)
    return [tag for piece in (text.split(",") if pieces is None else pieces) if (tag := piece.strip())]


def expand_wildcards(text: str, rng: random.Random | None) -> str:
    """Every {a|b|c} of a text as one of its choices, innermost first; without `chance` the first.

    A backslash makes a brace a plain sign, and so does the lack of a partner. Doubling it, as
    kohya does, would leave no way to end two choices at once: {a|{b|c}}.
    """
    while choices := _INNERMOST.search(text):
        options = choices[1].split("|")
        text = text[: choices.start()] + (rng.choice(options) if rng else options[0]) + text[choices.end() :]
    return text.replace("\\{", "{").replace("\\}", "}")


def _select_line(text: str, captions: CaptionOptions, rng: random.Random | None) -> str:
    """The line that counts: the first, as in kohya's trainer, or with wildcards any that is not empty."""
    lines = [" ".join(line.split()) for line in caption_lines(text)]
    if not captions.wildcards:
        return lines[0]
    lines = list(filter(None, lines)) or [""]
    return expand_wildcards(rng.choice(lines) if rng else lines[0], rng)


@dataclass(frozen=True, slots=True)
class _ProtectedTags:
    """What dropout must spare: the trigger, and one tag where none is kept in place."""

    trigger: str
    others: bool  # whether tags are kept in place


def _drop_tags(tags: list[str], share: float, protected: _ProtectedTags, rng: random.Random) -> list[str]:
    if not share:
        return tags
    kept = [tag for tag in tags if rng.random() >= share or (protected.trigger and protected.trigger in tag.split())]
    return kept if kept or protected.others else tags[:1]


def _join(tags: list[str], captions: CaptionOptions) -> str:
    return " ".join(part for part in (captions.caption_prefix, ", ".join(tags), captions.caption_suffix) if part)


def _split_outside(text: str) -> list[str] | None:
    """The pieces between commas outside of all brackets; None when brackets do not pair."""
    pieces, depth, begin, escaped = list[str](), 0, 0, False
    for at, sign in enumerate(text):
        if not escaped:
            depth += (sign in "([") - (sign in ")]")
        escaped = sign == "\\" and not escaped
        if depth < 0:
            return None
        if sign == "," and not depth:
            pieces.append(text[begin:at])
            begin = at + 1
    return None if depth else [*pieces, text[begin:]]
