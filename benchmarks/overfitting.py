"""Whether prep's verdict on checkpoints agrees with what their samples show: python benchmarks/world.py overfitting.

Few images, many steps, five times the usual rate: a run that is bound to overfit, and to break in the end. prep
judges each checkpoint by images held out; the mini-tagger judges its samples. What a checkpoint is worth is the mean
of how well it binds the subject and how well it still follows prompts.

The best of ten checkpoints by one half of the samples is partly the luckiest: what it is worth is told by the other
half, and so is what prep's choice is worth.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from benchmarks.training_variants import BATCH, TrainingVariant, train_options
from benchmarks.experiments import CLASS, PER_KIND, SUBJECT, draw_images, read_samples, train
from benchmarks.sample_scores import SampleScores, score_samples, subject_tags, prompts, detect_tags

EVERY, STEPS = 50, 500
VARIANT = TrainingVariant(
    "overfitting",
    num_images=12,
    tables=train_options(
        batch=BATCH,
        learning_rate=5e-3,
        steps=STEPS,
        validation_share=0.34,
        validation_timesteps=10,
        validate_every_steps=EVERY,
        validate_every_epochs=0,
        sample_base=False,
        sample_every_steps=EVERY,
        save_every_epochs=0,
    ),
)
MIN_ADHERENCE_SHARE = 0.9  # of the best following so far: below it, samples have stopped following prompts
MAX_REGRET = 0.05  # how far prep's choice may be from the best in hindsight


@dataclass(frozen=True, slots=True)
class CheckpointScores:
    """What is known of a checkpoint."""

    seed: int
    step: int
    held_out_loss: float  # of the images held out, as a share of the base model's
    verdict: str  # prep's verdict
    chosen: bool  # prep calls it the best
    scores: SampleScores  # of all its samples
    halves: tuple[float, float]  # what it is worth by either half of them


def quality(shown: SampleScores) -> float:
    """How well samples show the subject and follow, 0 to 1."""
    return (shown.subject_fidelity + shown.prompt_adherence) / 2


def run_overfitting(seed: int, home: Path) -> list[CheckpointScores]:
    """Every checkpoint of one long run."""
    draw_images(VARIANT, seed, home / "images")
    asked = prompts(SUBJECT, CLASS, PER_KIND)
    train(VARIANT, seed, home, asked)
    folder = home / "workspace" / "runs" / "run"
    shown, looks = read_samples(folder), subject_tags(SUBJECT)
    told = json.loads((folder / "run.json").read_text("utf-8"))["validation"]
    found = []
    for one in told:
        if one["step"] in shown and "verdict" in one:
            seen = detect_tags(shown[one["step"]])
            first, second = (
                quality(score_samples([asked[at] for at in half], [seen[at] for at in half], looks))
                for half in _halves()
            )
            verdict = score_samples(asked, seen, looks)
            found.append(
                CheckpointScores(
                    seed, one["step"], one["validation"], one["verdict"], one["best"], verdict, (first, second)
                )
            )
    return found


def _halves() -> tuple[list[int], list[int]]:
    """The places of the first half of the prompts of every kind, and of the second."""
    places = range(PER_KIND * len(dataclasses.fields(SampleScores)))
    early, late = ([at for at in places if (at % PER_KIND < PER_KIND // 2) == first] for first in (True, False))
    return early, late


def regret(course: list[CheckpointScores], last: bool = False) -> float:
    """How much less prep's choice, or the last checkpoint, is worth than the best in hindsight.

    The best by either half of the samples is compared by the other, so that luck counts on neither side.
    """
    choice = course[-1] if last else next(one for one in course if one.chosen)
    bests = [max(course, key=lambda one, half=half: one.halves[half]) for half in (0, 1)]
    return statistics.mean(best.halves[1 - half] - choice.halves[1 - half] for half, best in enumerate(bests))


def agreement(course: list[CheckpointScores]) -> float:
    """The share of checkpoints where prep says overfit just when samples follow clearly less than they once did."""
    best, same = 0.0, 0
    for one in course:
        best = max(best, one.scores.prompt_adherence)
        same += (one.verdict == "overfit") == (one.scores.prompt_adherence < MIN_ADHERENCE_SHARE * best)
    return same / len(course)


def rank_correlation(course: list[CheckpointScores]) -> float:
    """Spearman's correlation of the error of what was held out with how well samples follow: -1 is as it should be."""
    errors, follow = (
        _ranks([one.held_out_loss for one in course]),
        _ranks([one.scores.prompt_adherence for one in course]),
    )
    return statistics.correlation(errors, follow)


def _ranks(values: list[float]) -> list[float]:
    """The rank of each value; equals share the mean of theirs."""
    order = sorted(values)
    return [order.index(value) + (order.count(value) - 1) / 2 for value in values]


def table(runs: list[list[CheckpointScores]]) -> str:
    """A line a checkpoint, medians over seeds."""
    lines = [f"{'step':>6}{'held-out error':>16}{'bound':>8}{'follow':>8}{'drift':>8}   verdicts"]
    for at in zip(*runs, strict=True):
        error, *shares = (
            statistics.median(values)
            for values in zip(*((one.error, *dataclasses.astuple(one.shown)) for one in at), strict=True)
        )
        words = ", ".join(one.word + ("*" if one.chosen else "") for one in at)
        lines.append(f"{at[0].step:>6}{error:>16.1%}" + "".join(f"{share:>8.0%}" for share in shares) + f"   {words}")
    chosen, last = (", ".join(f"{regret(one, last):.1%}" for one in runs) for last in (False, True))
    lines.append(f"* the best by what was held out, worth {chosen} less than the best in hindsight,")
    lines.append(f"  the last {last}; to reach: {MAX_REGRET:.0%} at most")
    lines.append(
        f"rank correlation of held-out error and following: {statistics.median(map(rank_correlation, runs)):.2f}"
    )
    lines.append(f"verdict and samples agree about {statistics.median(map(agreement, runs)):.0%} of the checkpoints")
    return "\n".join(lines)
