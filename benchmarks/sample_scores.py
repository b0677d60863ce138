"""Scores of a run's samples by mini-tagger: subject fidelity, prompt adherence and class leakage.

In the generated world it is known which tags an image should have, so each can be checked with the tagger.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sample_data.mini.scenes import NAMES
from sample_data.mini.scoring import THRESHOLD, tag_scores
from sample_data.world.scene import CAST, cast_scene, class_scene
from sample_data.world.tags import tags_of

MIN_SUBJECT_SHARE, MAX_OTHERS_SHARE = (
    0.9,
    0.3,
)  # a subject tag is on this share of its images at least, and on fewer of other people's
PLACES = ("forge", "kitchen", "library", "forest", "beach", "street", "mountain")
ACTIONS = ("waving", "hammering", "reading", "holding umbrella", "drinking", "hands on tags hips")


@dataclass(frozen=True, slots=True)
class SamplePrompt:
    """A prompt, the score that it is for, and the tags that its samples should have."""

    text: str
    measures: Literal["subject", "prompt", "class"]
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SampleScores:
    """Scores of the samples of a checkpoint, 0 to 1."""

    subject_fidelity: float  # share of samples of the trigger alone that show the subject
    prompt_adherence: float  # share of the places and actions prompted with the trigger that are visible
    class_leakage: float  # share of samples of the class alone that show the subject (language drift)


@dataclass(frozen=True, slots=True)
class SubjectTags:
    """The tags by which a subject is recognized."""

    class_tag: str  # 1boy or 1girl
    tags: tuple[str, ...]  # on nearly all of its images, and on few of other people

    def is_shown(self, tags: set[str]) -> bool:
        """Whether an image shows the subject: its class tag, and all of its tags but one, which may be hidden."""
        return self.class_tag in tags and len(tags.intersection(self.tags)) >= len(self.tags) - 1


def subject_tags(name: str, count: int = 400) -> SubjectTags:
    """The tags of a member of the cast, from `count` scenes with it and with other people of either gender."""
    scenes = [set(tags_of(cast_scene(name, seed))) for seed in range(count)]
    others = [set(tags_of(class_scene(gender, seed))) for seed in range(count) for gender in ("boy", "girl")]
    tags = tuple(
        tag
        for tag in sorted(set().union(*scenes))
        if _mean([tag in one for one in scenes]) >= MIN_SUBJECT_SHARE
        and _mean([tag in one for one in others]) < MAX_OTHERS_SHARE
    )
    return SubjectTags(f"1{CAST[name].gender}", tags)


def prompts(trigger: str, class_name: str, each: int) -> list[SamplePrompt]:
    """`each` prompts for every score; those of equal text differ in their seed."""
    adherence = [
        SamplePrompt(f"{trigger}, {PLACES[n % len(PLACES)]}, {ACTIONS[n % len(ACTIONS)]}", "prompt", (place, action))
        for n in range(each)
        for place, action in [(PLACES[n % len(PLACES)], ACTIONS[n % len(ACTIONS)])]
    ]
    return [SamplePrompt(trigger, "subject")] * each + adherence + [SamplePrompt(class_name, "class")] * each


def score_samples(sample_prompts: list[SamplePrompt], detected: list[set[str]], subject: SubjectTags) -> SampleScores:
    """The scores of samples, given in the order of their prompts, from the tags detected in each."""
    hits: dict[str, list[bool]] = {"subject": [], "prompt": [], "class": []}
    for prompt, tags in zip(sample_prompts, detected, strict=True):
        hits[prompt.measures] += [tag in tags for tag in prompt.tags] if prompt.tags else [subject.is_shown(tags)]
    return SampleScores(_mean(hits["subject"]), _mean(hits["prompt"]), _mean(hits["class"]))


def detect_tags(images: list[Path]) -> list[set[str]]:
    """The tags that mini-tagger detects in each image."""
    from pipeline.imaging.image_file import load_rgb

    table = tag_scores(load_rgb(path) for path in images)
    return [{NAMES[at] for at in row.nonzero()[0]} for row in table >= THRESHOLD]


def _mean(values: list[float] | list[bool]) -> float:
    return sum(values) / len(values) if values else float("nan")
