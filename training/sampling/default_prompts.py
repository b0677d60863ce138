"""The prompts of sample images where no prompt file is given: sentences or tags made from token and class."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import replace

from training.batch import TrainingImage
from training.sampling.settings import ImageSettings

_COUNT = 4  # prompts of a run with up to four subjects; with more, each has one
_SUBJECTS = 8  # most subjects with default prompts
# Words of classes that are people.
PEOPLE = frozenset(
    "1boy 1girl actor actress baby boy child face female girl guy kid lady male man people person woman".split()  # noqa: SIM905
)
_DANBOORU = re.compile(r"\d\+?(girl|boy|other)s?")  # 1girl, 2boys: captions are tags
_STYLES = frozenset("art artstyle style".split())  # noqa: SIM905


def default_prompts(samples: list[TrainingImage], defaults: ImageSettings) -> list[ImageSettings]:
    """Four prompts in all, or one per subject if there are more subjects, each with another seed.

    Of one subject: the subject, the subject in a place, the subject with something that its images do not show (if
    that is missing, the adapter is overfit), and its class alone, which must not turn into the subject.
    """
    subjects = sorted({(s.subject, s.class_name) for s in samples if s.subject and not s.reg})[:_SUBJECTS]
    turns: Iterable[tuple[str, ...]] = zip(*(prompt_texts(token, kind) for token, kind in subjects), strict=True)
    texts = dict.fromkeys(itertools.chain.from_iterable(turns))  # the first prompt of all, then the second of all
    chosen = list(texts)[: max(_COUNT, len(subjects))]
    return [replace(defaults.later(number), prompt=text) for number, text in enumerate(chosen)]


def prompt_texts(token: str, class_name: str) -> tuple[str, str, str, str]:
    """The prompts of one subject, the most telling first."""
    name = token if token == class_name else f"{token} {class_name}"
    words = set(class_name.lower().split())
    if any(_DANBOORU.fullmatch(word) for word in words):
        tags = class_name.replace(" ", ", ")
        named = tags if token == class_name else f"{token}, {tags}"
        return named, f"{named}, beach, smile", f"{named}, red hair", f"{tags}, solo"
    if words & _STYLES:
        scenes = ("a cottage by a lake", "a portrait of a woman", "a city street at night")
        first, second, third = (f"{scene}, {name}" for scene in scenes)
        return first, second, third, scenes[0]
    if words & PEOPLE:
        return f"photo of {name}", f"photo of {name} on a beach", f"photo of {name} with red hair", _alone(class_name)
    return f"photo of {name}", f"photo of {name} on a beach", f"photo of {name} painted red", _alone(class_name)


def _alone(class_name: str) -> str:
    return f"photo of {'an' if class_name[:1].lower() in tuple('aeiou') else 'a'} {class_name}"
