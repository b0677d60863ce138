"""Label files: the tags that CLIP scores, and the prompts of each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.tag_text import format_tag, normalize_tag
from pipeline.text_files import TextFault, read_text

LABEL_FORMAT = (
    "One label per line; '[pose]' begins a group of labels of which one is true, '[]' ends it; "
    "'label | opposite', 'label = prompt' and 'label = prompt | opposite prompt' are possible too."
)
# Common labels for portraits, in the format of a label file.
BUILT_IN_LABELS = """
[medium]
photo = a photograph
painting (medium) = a painting
sketch = a pencil drawing
illustration = a digital illustration
3d = a 3d render
[framing]
close-up = a close-up photo of a face
portrait = a head and shoulders portrait
upper body = a photo of a person from the waist up
full body = a full-length photo of a person from head to toe
no humans = a photo without any people
[place]
indoors = a photo taken indoors
outdoors = a photo taken outdoors
simple background = a picture in front of a plain background
[]
night = a photo taken at night | a photo taken in daylight
smile = a photo of a smiling person | a photo of a person with a straight face
sunglasses = a photo of a person with sunglasses | a photo of a person whose eyes are visible
glasses = a photo of a person with glasses | a photo of a person without glasses
hat = a photo of a person with a hat | a photo of a bareheaded person
beard = a photo of a person with a beard | a photo of a clean-shaven person
watermark = a picture with a watermark | a picture without a watermark
text = a picture with text on it | a picture without any text
"""


@dataclass(frozen=True, slots=True)
class Label:
    """A tag, and its prompt or the words that go into the templates."""

    tag: str
    group: str  # empty: the label is scored against its opposite
    prompt: str  # empty: made from the templates
    opposite: str  # a prompt if `prompt` is given, else words for the templates; empty: none


def read_labels(path: Path) -> tuple[Label, ...]:
    """The labels of a text file; PrepError names the line that cannot be read."""
    try:
        text = read_text(path)
    except OSError as error:
        raise PrepError(f"The label file {path} cannot be read: {error.strerror}.", LABEL_FORMAT) from None
    except TextFault as fault:
        raise PrepError(f"The label file {path} {fault}.", "Save it as UTF-8.") from None
    return parse_labels(text, str(path))


def parse_labels(text: str, where: str) -> tuple[Label, ...]:
    """The labels in a text; a line that begins with '# ' is a comment."""
    labels: dict[str, Label] = {}
    sizes: dict[str, int] = {}
    group = ""
    for number, raw in enumerate(text.splitlines(), 1):
        line = " ".join(raw.split())
        if not line or line == "#" or line.startswith("# "):
            continue
        if header := re.fullmatch(r"\[(.*)\]", line):
            group = header.group(1).strip()
            if group in sizes:
                raise PrepError(f"{where}, line {number}: the group [{group}] begins twice.", LABEL_FORMAT)
            if group:
                sizes[group] = 0
            continue
        label = _label(line, group, f"{where}, line {number}")
        if normalize_tag(label.tag) in labels:
            raise PrepError(f"{where}, line {number}: {label.tag!r} is listed twice.", "Delete one of the lines.")
        labels[normalize_tag(label.tag)] = label
        if group:
            sizes[group] += 1
    if not labels:
        raise PrepError(f"{where} lists no labels.", LABEL_FORMAT)
    if small := [name for name, size in sizes.items() if size < 2]:
        raise PrepError(f"{where}: the group [{small[0]}] needs two labels to choose between.", LABEL_FORMAT)
    return tuple(labels.values())


def fill_templates(words: str, templates: tuple[str, ...]) -> tuple[str, ...]:
    """The prompts that the templates make from some words; underscores become spaces."""
    return tuple(template.replace("{}", format_tag(words)) for template in templates)


def _label(line: str, group: str, where: str) -> Label:
    text, equals, rest = (part.strip() for part in f" {line} ".partition(" = "))
    body = rest if equals else text
    positive, bar, opposite = (part.strip() for part in f" {body} ".partition(" | "))
    if bar and group:
        raise PrepError(
            f"{where}: {line!r} has an opposite inside the group [{group}].",
            "In a group the other labels are its opposite; end the group before with a line '[]'.",
        )
    if not text or not positive or (bar and not opposite) or not line.isprintable():
        raise PrepError(f"{where}: {line!r} is no label.", LABEL_FORMAT)
    return Label(text if equals else positive, group, positive if equals else "", opposite)
