"""prep plan: what training will do with the set, by the trainer's own code, and what is usual for a set like it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from pipeline.errors import PrepError
from pipeline.manifest import read_if_valid
from pipeline.record import Record, root_of
from pipeline.stage import ProgressFn
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace
from stages.build import Build
from training.batch import TrainingImage
from training.data.dataset import samples_of
from training.data.sampler import epoch_batches
from training.methods.adapter_method import STEPS_PER_IMAGE
from training.methods.dreambooth import FACE, OBJECT
from training.methods.textual_inversion import USUAL_LR, USUAL_STEPS, usual_vectors
from training.sampling.prompts import PEOPLE
from training.train import Train
from training.trainer import count_steps

EVEN = 1.25  # subjects shown at most so many times as often as each other are balanced
_MOST = 200  # repeats that are still tried


@dataclass(frozen=True, slots=True)
class SubjectPlan:
    """A subject in numbers: its images, how often an epoch shows them, and what is usual for so many."""

    token: str
    class_name: str
    sources: int  # images of the user's
    images: int  # with the copies that were made of them
    per_epoch: int  # an epoch, repeats included
    repeats: float  # shown / images: whole where one folder holds them all
    balanced_repeats: int  # repeats that would show all subjects about as often
    lora_steps: int  # of a LoRA, at one image a step
    dreambooth_steps: int
    dreambooth_rate: str
    vectors: tuple[int, int]


@dataclass(frozen=True, slots=True)
class RegularizationPlan:
    """Regularization images of a class: how many there are, and how often an epoch draws one."""

    class_name: str
    images: int
    per_epoch: int


@dataclass(frozen=True, slots=True)
class BucketPlan:
    """The images of one size, and their batches in the first epoch."""

    width: int
    height: int
    images: int
    per_epoch: int
    batches: int
    partial_batches: int  # batches that are not full


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What training will do."""

    subjects: tuple[SubjectPlan, ...]
    regularization: tuple[RegularizationPlan, ...]
    buckets: tuple[BucketPlan, ...]
    validation: int  # images held out
    batch_size: int
    epochs: int
    steps_per_epoch: int  # of the first epoch; the others may differ by a few where regularization rotates
    steps: int  # in all, as the trainer counts them
    steps_given: bool  # whether the user gave the steps, so that the epochs do not count
    suggested_steps: int  # steps in all for so many images, at this batch
    source: str  # where the images were read from


def make_plan(
    workspace: Workspace, train: Train, build: Build, report: ProgressFn = lambda done, total: None
) -> TrainingPlan:
    """The plan of the set that training would take: --data's folders, or what build laid out, or would lay out.

    PrepError when there is none, or nothing in it.
    """
    config = train.config
    placed, origin = _placed(workspace, train, build, report)
    found = samples_of([placed])
    samples = [
        sample for sample in found if not sample.held_out and (config.dataset.prior_loss_weight or not sample.reg)
    ]
    if all(sample.reg for sample in samples):
        raise PrepError(f"There are no images to train on in {origin}.", "prep status says where they went")
    first = epoch_batches(
        samples, 0, config.optimizer.batch_size, config.optimizer.seed, config.dataset.incomplete_batch
    )
    subjects = tuple(_subjects(samples))
    share = sum(subject.per_epoch for subject in subjects) / sum(map(len, first))
    return TrainingPlan(
        subjects,
        tuple(_priors(samples, Counter(draw.image.class_name for draw in chain(*first) if draw.image.reg))),
        tuple(_buckets(samples, [[draw.image for draw in batch] for batch in first], config.optimizer.batch_size)),
        sum(sample.held_out for sample in found),
        config.optimizer.batch_size,
        config.optimizer.epochs,
        len(first),
        count_steps(config, samples),
        bool(config.optimizer.steps),
        # Regularization draws take steps of their own.
        round(sum(subject.lora_steps for subject in subjects) / share / config.optimizer.batch_size),
        origin,
    )


def _placed(workspace: Workspace, train: Train, build: Build, report: ProgressFn) -> tuple[list[Record], str]:
    """The records with their places in the set, and what to call where they came from."""
    if own := train.own_source(workspace, report):
        return own[0], escape_control(train.config.dataset.data)
    built, merged = (read_if_valid(workspace.manifest(name)) for name in ("build", "merge"))
    if built and (merged is None or built.history[:-1] == merged.history):
        return list(built.records()), workspace.relative(built.path)
    if merged:
        records = list(chain.from_iterable(build.place_records(merged, workspace)))
        return records, f"{workspace.relative(merged.path)}, as prep build would lay it out"
    missing = [f"prep {name}" for name in ("crop", "tag", "merge") if not workspace.manifest(name).is_file()]
    raise PrepError(
        "There are no captions yet, and so no data set to plan for.",
        f"First: {', then '.join(missing)}; or plan for a folder of kohya's layout: --data DIR",
    )


def balanced(images: Mapping[str, int], repeats: Mapping[str, int]) -> dict[str, int]:
    """Repeats that show all subjects about as often, an epoch about as long as with those given; never more uneven."""
    length = sum(images[token] * repeats[token] for token in images)
    most = max(images.values())
    tried = [{token: max(1, round(most * k / count)) for token, count in images.items()} for k in range(1, _MOST)]
    choices = [dict(repeats), *tried]

    def cost(choice: dict[str, int]) -> tuple[float, float]:
        shown = [images[token] * choice[token] for token in images]
        uneven = max(shown) / min(shown)
        return (1.0 if uneven <= EVEN else uneven), abs(sum(shown) - length)

    return min(choices, key=cost)


def _subjects(samples: list[TrainingImage]) -> Iterator[SubjectPlan]:
    mine: dict[tuple[str, str], list[TrainingImage]] = defaultdict(list)
    for sample in samples:
        if not sample.reg:
            mine[sample.subject, sample.class_name].append(sample)
    counts = {token: len(some) for (token, _), some in mine.items()}
    shown = {token: sum(sample.repeats for sample in some) for (token, _), some in mine.items()}
    even = balanced(counts, {token: max(1, round(shown[token] / counts[token])) for token in counts})
    for (token, class_name), some in sorted(mine.items()):
        sources = len({root_of(sample.id) for sample in some})
        steps, rate = FACE if PEOPLE & set(class_name.lower().split()) else OBJECT
        yield SubjectPlan(
            token,
            class_name,
            sources,
            len(some),
            shown[token],
            shown[token] / len(some),
            even[token],
            sources * STEPS_PER_IMAGE,
            steps,
            rate,
            usual_vectors(sources),
        )


def _priors(samples: list[TrainingImage], drawn: Mapping[str, int]) -> Iterator[RegularizationPlan]:
    for class_name, images in sorted(Counter(sample.class_name for sample in samples if sample.reg).items()):
        yield RegularizationPlan(class_name, images, drawn.get(class_name, 0))


def _buckets(samples: list[TrainingImage], batches: list[list[TrainingImage]], batch: int) -> Iterator[BucketPlan]:
    images = Counter((sample.width, sample.height) for sample in samples)
    lengths: dict[tuple[int, int], list[int]] = defaultdict(list)
    for some in batches:
        lengths[some[0].width, some[0].height].append(len(some))
    for (width, height), count in sorted(images.items()):
        sizes = lengths[width, height]
        yield BucketPlan(width, height, count, sum(sizes), len(sizes), sum(size < batch for size in sizes))


def lines(plan: TrainingPlan) -> Iterator[str]:
    """The plan as aligned text."""
    rows = [("subject", "class", "images", "repeats", "an epoch", "balanced")]
    for s in plan.subjects:
        count = f"{s.sources:,}" if s.sources == s.images else f"{s.sources:,} as {s.images:,}"
        rows.append((s.token, s.class_name, count, f"{s.repeats:g}", f"{s.per_epoch:,}", f"{s.balanced_repeats}"))
    rows += [("", p.class_name, f"{p.images:,}", "", f"{p.per_epoch:,}", "prior") for p in plan.regularization]
    yield from _table(rows, "<<>>>>")
    yield ""
    sizes = [("size", "images", "an epoch", f"batches of {plan.batch_size}", "not full")]
    for b in plan.buckets:
        sizes.append(
            (
                f"{b.width} x {b.height}",
                f"{b.images:,}",
                f"{b.per_epoch:,}",
                f"{b.batches:,}",
                f"{b.partial_batches or '-'}",
            )
        )
    yield from _table(sizes, "<>>>>")
    yield ""
    held = f"; {_counted(plan.validation, 'image')} held out for validation" if plan.validation else ""
    last = "as given" if plan.steps_given else f"{_counted(plan.epochs, 'epoch')}"
    yield f"{_counted(plan.steps_per_epoch, 'step')} an epoch, {last}: {_counted(plan.steps, 'step')} in all{held}"
    yield f"from {plan.source}"
    yield ""
    yield from _advice(plan)


def _advice(plan: TrainingPlan) -> Iterator[str]:
    epochs = max(1, round(plan.suggested_steps / plan.steps_per_epoch))
    each = f"{STEPS_PER_IMAGE} an image and batch {plan.batch_size}"
    yield f"LoRA: about {plan.suggested_steps:,} steps for so many images ({each}), which is --epochs {epochs}"
    for s in plan.subjects:
        about = f"about {s.dreambooth_steps:,} steps at {s.dreambooth_rate}"
        kind = "a face" if s.dreambooth_steps == FACE[0] else "an object"
        yield f"DreamBooth, {escape_control(s.token)}: {about}, as for {kind}"
    for s in plan.subjects:
        low, high = s.vectors
        count = f"{low}" if low == high else f"{low} to {high}"
        yield f"Textual inversion, {escape_control(s.token)}: {count} vectors, from {USUAL_STEPS:,} steps"
    yield f"  its rate: {USUAL_LR}"
    if changed := [s for s in plan.subjects if s.repeats != s.balanced_repeats]:
        told = ", ".join(f"{escape_control(s.token)} repeats = {s.balanced_repeats}" for s in changed)
        yield f"For subjects shown about as often as each other, in prep.toml: {told}"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _table(rows: Sequence[tuple[str, ...]], sides: str) -> Iterator[str]:
    """Rows in columns; '<' to the left, '>' to the right."""
    shown = [[escape_control(cell) for cell in row] for row in rows]
    wide = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        yield "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, wide, strict=True)).rstrip()
