"""Agreement of prep's verdicts on checkpoints with their samples: python benchmarks/world.py overfitting.

Few images, many steps and five times the default learning rate make a run overfit, and finally break. prep's verdict
on each checkpoint comes from held-out images; mini-tagger scores its samples. The quality of a checkpoint is the mean
of subject fidelity and prompt adherence.

The best of ten checkpoints by one half of the samples is partly the luckiest, so the other half of the samples
measures its quality and that of prep's choice.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from benchmarks.experiments import CLASS, PER_KIND, SUBJECT, draw_images, read_samples, train
from benchmarks.sample_scores import SampleScores, detect_tags, prompts, score_samples, subject_tags
from benchmarks.training_variants import BATCH, TrainingVariant, train_options

EVERY, STEPS = 50, 500
VARIANT = TrainingVariant(
    "overfitting",
    num_images=12,
    tables=train_options(
        batch_size=BATCH,
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
MIN_ADHERENCE_SHARE = 0.9  # of the best adherence so far; below it, samples no longer adherence prompts
MAX_REGRET = 0.05  # how much worse than the best in hindsight prep's choice may be


@dataclass(frozen=True, slots=True)
class CheckpointScores:
    """A checkpoint with its verdict and the scores of its samples."""

    seed: int
    step: int
    held_out_loss: float  # relative to the base model's
    verdict: str  # by prep
    chosen: bool  # prep's best checkpoint
    scores: SampleScores  # of all samples
    halves: tuple[float, float]  # quality by either half of the samples


def quality(by_step: SampleScores) -> float:
    """The mean of subject fidelity and prompt adherence, 0 to 1."""
    return (by_step.subject_fidelity + by_step.prompt_adherence) / 2


def run_overfitting(seed: int, home: Path) -> list[CheckpointScores]:
    """Train one long run and score every checkpoint."""
    draw_images(VARIANT, seed, home / "images")
    sample_prompts = prompts(SUBJECT, CLASS, PER_KIND)
    train(VARIANT, seed, home, sample_prompts)
    folder = home / "workspace" / "runs" / "run"
    by_step, subject = read_samples(folder), subject_tags(SUBJECT)
    checkpoints = json.loads((folder / "run.json").read_text("utf-8"))["validation"]
    scored = []
    for one in checkpoints:
        if one["step"] in by_step and "verdict" in one:
            detected = detect_tags(by_step[one["step"]])
            first, second = (
                quality(score_samples([sample_prompts[at] for at in half], [detected[at] for at in half], subject))
                for half in _halves()
            )
            verdict = score_samples(sample_prompts, detected, subject)
            scored.append(
                CheckpointScores(
                    seed, one["step"], one["validation"], one["verdict"], one["best"], verdict, (first, second)
                )
            )
    return scored


def _halves() -> tuple[list[int], list[int]]:
    """The indices of the first half of the prompts for every score, and of the second half."""
    places = range(PER_KIND * len(dataclasses.fields(SampleScores)))
    early, late = ([at for at in places if (at % PER_KIND < PER_KIND // 2) == first] for first in (True, False))
    return early, late


def regret(checkpoints: list[CheckpointScores], last: bool = False) -> float:
    """How much worse prep's choice, or the last checkpoint, is than the best in hindsight.

    The best by one half of the samples is compared on the other half, which removes the luck of selection.
    """
    choice = checkpoints[-1] if last else next(one for one in checkpoints if one.chosen)
    bests = [max(checkpoints, key=lambda one, half=half: one.halves[half]) for half in (0, 1)]
    return statistics.mean(best.halves[1 - half] - choice.halves[1 - half] for half, best in enumerate(bests))


def agreement(checkpoints: list[CheckpointScores]) -> float:
    """The share of checkpoints where prep says overfit exactly when prompt adherence has clearly fallen."""
    best, same = 0.0, 0
    for one in checkpoints:
        best = max(best, one.scores.prompt_adherence)
        same += (one.verdict == "overfit") == (one.scores.prompt_adherence < MIN_ADHERENCE_SHARE * best)
    return same / len(checkpoints)


def rank_correlation(checkpoints: list[CheckpointScores]) -> float:
    """Spearman correlation of held-out loss and prompt adherence: -1 is ideal."""
    errors, adherence = (
        _ranks([one.held_out_loss for one in checkpoints]),
        _ranks([one.scores.prompt_adherence for one in checkpoints]),
    )
    return statistics.correlation(errors, adherence)


def _ranks(values: list[float]) -> list[float]:
    """The rank of each value; equal values get their mean rank."""
    order = sorted(values)
    return [order.index(value) + (order.count(value) - 1) / 2 for value in values]


def table(runs: list[list[CheckpointScores]]) -> str:
    """A table of medians over seeds, one line per checkpoint."""
    lines = [f"{'step':>6}{'held-out loss':>15}{'fidelity':>10}{'adherence':>11}{'leakage':>9}   verdicts"]
    for at in zip(*runs, strict=True):
        loss, fidelity, adherence, leakage = (
            statistics.median(values)
            for values in zip(*((one.held_out_loss, *dataclasses.astuple(one.scores)) for one in at), strict=True)
        )
        words = ", ".join(one.verdict + ("*" if one.chosen else "") for one in at)
        lines.append(f"{at[0].step:>6}{loss:>15.1%}{fidelity:>10.0%}{adherence:>11.0%}{leakage:>9.0%}   {words}")
    chosen, last = (", ".join(f"{regret(one, last):.1%}" for one in runs) for last in (False, True))
    lines.append(f"* prep's choice by held-out loss: {chosen} worse than the best in hindsight,")
    lines.append(f"  the last checkpoint {last}; goal: at most {MAX_REGRET:.0%}")
    lines.append(
        f"rank correlation of held-out loss and prompt adherence: {statistics.median(map(rank_correlation, runs)):.2f}"
    )
    lines.append(f"verdict and samples agree on {statistics.median(map(agreement, runs)):.0%} of the checkpoints")
    return "\n".join(lines)
