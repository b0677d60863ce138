"""What the mini-tagger sees in the samples of a run: is the subject there, is the prompt followed, do others drift.

The world's truth is known, so a tag that was prompted either can be seen or not, and the tagger says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sample_data.mini.scoring import THRESHOLD, tag_scores
from sample_data.mini.scenes import NAMES
from sample_data.world.scene import CAST, cast_scene, class_scene
from sample_data.world.tags import tags_of

MIN_SUBJECT_SHARE, MAX_OTHERS_SHARE = (
    0.9,
    0.3,
)  # a tag tells a subject if this share of its images shows it, and fewer of other people's
PLACES = ("forge", "kitchen", "library", "forest", "beach", "street", "mountain")
ACTIONS = ("waving", "hammering", "reading", "holding umbrella", "drinking", "hands on own hips")


@dataclass(frozen=True, slots=True)
class SamplePrompt:
    """A prompt, what it is asked for, and the tags that should be seen."""

    text: str
    measures: str  # bound, follow, class
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SampleScores:
    """What the samples of a run show, by the tagger's word, 0 to 1."""

    subject_fidelity: float  # the share of samples of the trigger alone that show the subject
    prompt_adherence: float  # the share of prompted places and actions that are seen, beside the trigger
    class_leakage: float  # the share of samples of the class alone that show the subject


@dataclass(frozen=True, slots=True)
class SubjectTags:
    """What tells a subject from other people."""

    class_tag: str  # 1boy or 1girl
    tags: tuple[str, ...]  # the tags that nearly all of its images show and few of other people do

    def is_shown(self, tags: set[str]) -> bool:
        """Whether an image shows the subject: its kind, and all that is its own but one tag, which may be hidden."""
        return self.class_tag in tags and len(tags.intersection(self.tags)) >= len(self.tags) - 1


def subject_tags(name: str, count: int = 400) -> SubjectTags:
    """How a member of the cast can be told from others, by `count` scenes with it and with each kind of the others."""
    scenes = [set(tags_of(cast_scene(name, seed))) for seed in range(count)]
    others = [set(tags_of(class_scene(gender, seed))) for seed in range(count) for gender in ("boy", "girl")]
    own = tuple(
        tag
        for tag in sorted(set().union(*scenes))
        if _mean([tag in one for one in scenes]) >= MIN_SUBJECT_SHARE
        and _mean([tag in one for one in others]) < MAX_OTHERS_SHARE
    )
    return SubjectTags(f"1{CAST[name].gender}", own)


def prompts(trigger: str, class_name: str, each: int) -> list[SamplePrompt]:
    """`each` prompts of every kind; what differs between those of one text is their seed."""
    follow = [
        SamplePrompt(f"{trigger}, {PLACES[n % len(PLACES)]}, {ACTIONS[n % len(ACTIONS)]}", "follow", (place, action))
        for n in range(each)
        for place, action in [(PLACES[n % len(PLACES)], ACTIONS[n % len(ACTIONS)])]
    ]
    return [SamplePrompt(trigger, "bound")] * each + follow + [SamplePrompt(class_name, "class")] * each


def score_samples(asked: list[SamplePrompt], seen: list[set[str]], looks: SubjectTags) -> SampleScores:
    """The verdict on samples, in the order of their prompts, by the tags that were seen in each."""
    shown: dict[str, list[bool]] = {"bound": [], "follow": [], "class": []}
    for prompt, tags in zip(asked, seen, strict=True):
        shown[prompt.measures] += [tag in tags for tag in prompt.tags] if prompt.tags else [looks.is_shown(tags)]
    return SampleScores(_mean(shown["bound"]), _mean(shown["follow"]), _mean(shown["class"]))


def detect_tags(images: list[Path]) -> list[set[str]]:
    """The tags that the tagger sees in each image."""
    from pipeline.imaging.image_file import load_rgb

    table = tag_scores(load_rgb(path) for path in images)
    return [{NAMES[at] for at in row.nonzero()[0]} for row in table >= THRESHOLD]


def _mean(values: list[float] | list[bool]) -> float:
    return sum(values) / len(values) if values else float("nan")
