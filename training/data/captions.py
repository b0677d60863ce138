"""The prompt of each sample: its caption with one wildcard choice, tags dropped and shuffled, prefix and suffix."""

from __future__ import annotations

import random
import re

from pipeline.kohya_folders import caption_lines
from training.batch import SampleRef, TrainingImage
from training.data.sampler import seed_of
from training.models.family import TextSettings
from training.options.captions import CaptionOptions

_INNERMOST = re.compile(r"(?<!\\)\{((?:\\[{}]|[^{}])*)(?<!\\)\}")  # a choice with no choice inside


def text_settings(options: CaptionOptions) -> TextSettings:
    """How text encoders read captions."""
    return TextSettings(options.max_token_length, options.clip_skip, options.weighted_captions)


def build_prompt(sample: SampleRef, captions: CaptionOptions, seed: int) -> str:
    """The prompt of a sample: the same for the same seed, record id and repeat, whatever else is in the batch.

    In this order: line and wildcard choices, caption dropout, tag dropout, shuffling, prefix and suffix.
    A dropped caption is an empty prompt, without prefix and suffix: it trains the unconditional prediction.
    """
    rng = random.Random(seed_of(seed, "caption", sample.image.id, sample.repeat))
    text = _select_line(sample.image.caption, captions, rng)
    every = captions.caption_dropout_every_n_epochs
    if rng.random() < captions.caption_dropout or (every and (sample.epoch + 1) % every == 0):
        return ""
    front, free, end = split_caption(text, captions)
    if captions.tag_dropout:
        kept = [tag for tag in free if rng.random() >= captions.tag_dropout or _has_trigger(tag, sample.image.subject)]
        free = kept if kept or front or end else free[:1]  # one tag remains, or the caption would be empty
    if captions.shuffle_caption:
        rng.shuffle(free)
    return _join([*front, *free, *end], captions)


def fixed_prompt(image: TrainingImage, captions: CaptionOptions) -> str:
    """The prompt without randomness: the first line, the first of each choice, all tags in their order."""
    front, free, end = split_caption(_select_line(image.caption, captions, None), captions)
    return _join([*front, *free, *end], captions)


def split_caption(text: str, captions: CaptionOptions) -> tuple[list[str], list[str], list[str]]:
    """A caption's tags: the fixed ones in front, those that may be shuffled or dropped, the fixed ones at the end."""
    separator = captions.keep_separator
    if separator and separator in text:
        front, free, *end = text.split(separator, 2)
        return split_tags(front), split_tags(free), split_tags(",".join(end).replace(separator, ","))
    tags = split_tags(text)  # without the separator the number counts, as in kohya's scripts
    return tags[: captions.keep_tokens], tags[captions.keep_tokens :], []


def split_tags(text: str) -> list[str]:
    """A caption split at its commas, except inside brackets: '(red, blue:1.2)' is one tag.

    Brackets after a backslash are literal, and all of them are if they do not pair. Empty tags are left out.
    """
    parts = _split_outside_brackets(text)
    return [tag for part in (text.split(",") if parts is None else parts) if (tag := part.strip())]


def expand_wildcards(text: str, rng: random.Random | None) -> str:
    """Replace every {a|b|c} in a text by one of its choices, innermost first; without `rng` by the first.

    A brace after a backslash, or without a partner, is literal. kohya's scripts double literal braces
    instead, which leaves no way to end two choices at once: {a|{b|c}}.
    """
    while choices := _INNERMOST.search(text):
        options = choices[1].split("|")
        text = text[: choices.start()] + (rng.choice(options) if rng else options[0]) + text[choices.end() :]
    return text.replace("\\{", "{").replace("\\}", "}")


def _select_line(text: str, captions: CaptionOptions, rng: random.Random | None) -> str:
    """The line to use: the first, as in kohya's scripts, or with wildcards any that is not empty."""
    lines = [" ".join(line.split()) for line in caption_lines(text)]
    if not captions.wildcards:
        return lines[0]
    lines = list(filter(None, lines)) or [""]
    return expand_wildcards(rng.choice(lines) if rng else lines[0], rng)


def _has_trigger(tag: str, trigger: str) -> bool:
    return bool(trigger) and trigger in tag.split()


def _join(tags: list[str], captions: CaptionOptions) -> str:
    text = ", ".join(tags)
    if captions.secondary_separator:
        text = ", ".join(part.strip() for part in text.split(captions.secondary_separator))
    return " ".join(part for part in (captions.caption_prefix, text, captions.caption_suffix) if part)


def _split_outside_brackets(text: str) -> list[str] | None:
    """The parts between the commas outside of all brackets; None if brackets do not pair."""
    parts, depth, start, escaped = list[str](), 0, 0, False
    for position, char in enumerate(text):
        if not escaped:
            depth += (char in "([") - (char in ")]")
        escaped = char == "\\" and not escaped
        if depth < 0:
            return None
        if char == "," and not depth:
            parts.append(text[start:position])
            start = position + 1
    return None if depth else [*parts, text[start:]]
