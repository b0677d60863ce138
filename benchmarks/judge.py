"""What the mini-tagger sees in the samples of a run: is the subject there, is the prompt followed, do others drift.

The world's truth is known, so a tag that was prompted either can be seen or not, and the tagger says which; what it
finds in real renders of the same scenes is its ceiling, which benchmarks/world.py prints.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sample_data.mini.judge import THRESHOLD, scores
from sample_data.mini.scenes import NAMES
from sample_data.world.scene import cast_scene, class_scene
from sample_data.world.tags import tags_of

OWN = 0.5  # share of a subject's pictures from which a tag is its own: a portrait hides the apron
PLACES = ("forge", "kitchen", "library", "forest", "beach", "street", "mountain")
ACTIONS = ("waving", "hammering", "reading", "holding umbrella", "drinking", "hands on own hips")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, what it is asked for, and the tags that should be seen."""

    text: str
    about: str  # bound, follow, class
    wanted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the samples of a run show, by the tagger's word: shares of what real pictures show, 0 to 1."""

    bound: float  # the subject's own tags, in samples of the trigger alone
    follow: float  # the prompted places and actions, beside the trigger
    drift: float  # the subject's own tags, in samples of the class alone


def own_tags(name: str, count: int = 400) -> dict[str, float]:
    """The tags that a cast member shows wherever they can be seen, with the share of its pictures that show them."""
    scenes = [set(tags_of(cast_scene(name, seed))) for seed in range(count)]
    others = [set(tags_of(class_scene("boy", seed))) | set(tags_of(class_scene("girl", seed))) for seed in range(count)]
    shares = {tag: sum(tag in one for one in scenes) / count for tag in sorted(set().union(*scenes))}
    return {
        tag: share
        for tag, share in shares.items()
        if share >= OWN and share > 1.5 * sum(tag in o for o in others) / count
    }


def prompts(trigger: str, class_name: str, each: int) -> list[Prompt]:
    """`each` prompts of every kind; what differs between those of one text is their seed."""
    follow = [
        Prompt(f"{trigger}, {PLACES[n % len(PLACES)]}, {ACTIONS[n % len(ACTIONS)]}", "follow", (place, action))
        for n in range(each)
        for place, action in [(PLACES[n % len(PLACES)], ACTIONS[n % len(ACTIONS)])]
    ]
    return [Prompt(trigger, "bound")] * each + follow + [Prompt(class_name, "class")] * each


def judge(asked: list[Prompt], seen: list[set[str]], own: dict[str, float]) -> Verdict:
    """The verdict on samples, in the order of their prompts, by the tags that were seen in each."""
    kinds = {about: [s for p, s in zip(asked, seen, strict=True) if p.about == about] for about in ("bound", "class")}
    follow = [tag in s for p, s in zip(asked, seen, strict=True) if p.about == "follow" for tag in p.wanted]
    return Verdict(_shown(kinds["bound"], own), _mean(follow), _shown(kinds["class"], own))


def _shown(seen: list[set[str]], own: dict[str, float]) -> float:
    """How often each own tag is seen, as a share of how often real pictures show it, and the mean of these."""
    return _mean([min(1.0, _mean([tag in one for one in seen]) / share) for tag, share in own.items()])


def see(pictures: list[Path]) -> list[set[str]]:
    """The tags that the tagger sees in each picture."""
    from pipeline.imaging.picture import load_rgb

    table = scores(load_rgb(path) for path in pictures)
    return [{NAMES[at] for at in row.nonzero()[0]} for row in table >= THRESHOLD]


def _mean(values: list[float] | list[bool]) -> float:
    return sum(values) / len(values) if values else float("nan")
