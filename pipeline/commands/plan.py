"""prep plan: what training will do with the dataset, by the trainer's own code, and usual settings."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from pipeline.errors import PrepError
from pipeline.manifest import Manifest, read_if_valid
from pipeline.record import Record, root_of
from pipeline.stage import ProgressFn
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace
from stages.build import Build
from training.batch import TrainingImage
from training.data.dataset import LARGEST, oversize_remark, samples_of
from training.data.sampler import epoch_batches
from training.methods.adapter_method import STEPS_PER_IMAGE
from training.methods.dreambooth import FACE, OBJECT
from training.methods.textual_inversion import usual_vectors
from training.sampling.default_prompts import PEOPLE
from training.train import Train
from training.trainer import count_steps

BALANCED = 1.25  # subjects are balanced when none is shown this many times as often as another
_MAX_REPEATS = 200  # the largest repeats that are tried


@dataclass(frozen=True, slots=True)
class SubjectPlan:
    """A subject in numbers: its images, how often an epoch shows them, and usual settings."""

    token: str
    class_name: str
    sources: int  # the user's images
    images: int  # with augmented copies
    per_epoch: int  # images x repeats
    repeats: float  # per_epoch / images: whole when one folder holds all images
    balanced_repeats: int  # repeats that show all subjects about equally often
    lora_steps: int  # at batch size 1
    dreambooth_steps: int
    dreambooth_rate: str
    vectors: tuple[int, int]


@dataclass(frozen=True, slots=True)
class RegularizationPlan:
    """The regularization images of a class, and how many an epoch shows."""

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
    validation: int  # held-out images
    batch_size: int
    epochs: int
    steps_per_epoch: int  # of the first epoch; others may differ by a few when regularization images rotate
    steps: int  # in total, as the trainer counts them
    steps_given: bool  # whether --steps was given, which replaces --epochs
    suggested_steps: int  # usual total steps for so many images, at this batch size
    source: str  # where the images were read
    remark: str = ""  # about images that are too large to train on


def make_plan(
    workspace: Workspace, train: Train, build: Build, report: ProgressFn = lambda done, total: None
) -> TrainingPlan:
    """The plan for the dataset that training would use: --data's folders, or what build wrote or would write.

    PrepError when there is none, or it has no training image.
    """
    config = train.config
    placed, origin = _placed(workspace, train, build, report)
    found = samples_of([placed])
    samples = [
        sample for sample in found if not sample.held_out and (config.dataset.prior_loss_weight or not sample.reg)
    ]
    if all(sample.reg for sample in samples):
        raise PrepError(f"There are no images to train on in {origin}.", "See where they went: prep status")
    first = epoch_batches(
        samples, 0, config.optimizer.batch_size, config.optimizer.seed, config.dataset.incomplete_batch
    )
    subjects = tuple(_subjects(samples))
    share = sum(subject.per_epoch for subject in subjects) / sum(map(len, first))
    return TrainingPlan(
        subjects,
        tuple(_regularization(samples, Counter(draw.image.class_name for draw in chain(*first) if draw.image.reg))),
        tuple(_buckets(samples, [[draw.image for draw in batch] for batch in first], config.optimizer.batch_size)),
        sum(sample.held_out for sample in found),
        config.optimizer.batch_size,
        config.optimizer.epochs,
        len(first),
        count_steps(config, samples),
        bool(config.optimizer.steps),
        # Regularization images take steps too.
        round(sum(subject.lora_steps for subject in subjects) / share / config.optimizer.batch_size),
        origin,
        oversize_remark(samples, LARGEST, "the largest base model"),
    )


def _placed(workspace: Workspace, train: Train, build: Build, report: ProgressFn) -> tuple[list[Record], str]:
    """The records with their paths in the dataset, and the name of their source."""
    if own := train.own_source(workspace, report):
        return own[0], escape_control(train.config.dataset.data)
    built, merged = _built_and_merged(workspace)
    if built and planned_stage(workspace) == built.path.stem:
        return list(built.records()), workspace.relative(built.path)
    if merged:
        records = list(chain.from_iterable(build.place_records(merged, workspace)))
        return records, f"{workspace.relative(merged.path)}, as prep build would lay it out"
    missing = [f"prep {name}" for name in ("crop", "tag", "merge") if not workspace.manifest(name).is_file()]
    raise PrepError(
        "There are no captions yet, and so no dataset to plan for.",
        f"First: {', then '.join(missing)}; or plan for a folder of kohya's layout: prep plan --data DIR",
    )


def planned_stage(workspace: Workspace) -> str:
    """The stage whose manifest is planned for: merge, with what build would make of it, if it is newer than build."""
    built, merged = _built_and_merged(workspace)
    return "build" if built and (merged is None or built.history[:-1] == merged.history) else "merge"


def _built_and_merged(workspace: Workspace) -> tuple[Manifest | None, Manifest | None]:
    return read_if_valid(workspace.manifest("build")), read_if_valid(workspace.manifest("merge"))


def balance_repeats(images: Mapping[str, int], repeats: Mapping[str, int]) -> dict[str, int]:
    """Repeats that show all subjects about equally often, and epochs about as long as with `repeats`."""
    length = sum(images[token] * repeats[token] for token in images)
    most = max(images.values())
    tried = [
        {token: max(1, round(most * k / count)) for token, count in images.items()} for k in range(1, _MAX_REPEATS)
    ]
    choices = [dict(repeats), *tried]

    def cost(choice: dict[str, int]) -> tuple[float, float]:
        shown = [images[token] * choice[token] for token in images]
        ratio = max(shown) / min(shown)
        return (1.0 if ratio <= BALANCED else ratio), abs(sum(shown) - length)

    return min(choices, key=cost)


def _subjects(samples: list[TrainingImage]) -> Iterator[SubjectPlan]:
    by_subject: dict[tuple[str, str], list[TrainingImage]] = defaultdict(list)
    for sample in samples:
        if not sample.reg:
            by_subject[sample.subject, sample.class_name].append(sample)
    counts = {token: len(images) for (token, _), images in by_subject.items()}
    shown = {token: sum(image.repeats for image in images) for (token, _), images in by_subject.items()}
    balanced = balance_repeats(counts, {token: max(1, round(shown[token] / counts[token])) for token in counts})
    for (token, class_name), images in sorted(by_subject.items()):
        sources = len({root_of(image.id) for image in images})
        steps, rate = FACE if PEOPLE & set(class_name.lower().split()) else OBJECT
        yield SubjectPlan(
            token,
            class_name,
            sources,
            len(images),
            shown[token],
            shown[token] / len(images),
            balanced[token],
            sources * STEPS_PER_IMAGE,
            steps,
            rate,
            usual_vectors(sources),
        )


def _regularization(samples: list[TrainingImage], drawn: Mapping[str, int]) -> Iterator[RegularizationPlan]:
    for class_name, images in sorted(Counter(sample.class_name for sample in samples if sample.reg).items()):
        yield RegularizationPlan(class_name, images, drawn.get(class_name, 0))


def _buckets(samples: list[TrainingImage], batches: list[list[TrainingImage]], batch: int) -> Iterator[BucketPlan]:
    images = Counter((sample.width, sample.height) for sample in samples)
    lengths: dict[tuple[int, int], list[int]] = defaultdict(list)
    for members in batches:
        lengths[members[0].width, members[0].height].append(len(members))
    for (width, height), count in sorted(images.items()):
        sizes = lengths[width, height]
        yield BucketPlan(width, height, count, sum(sizes), len(sizes), sum(size < batch for size in sizes))
