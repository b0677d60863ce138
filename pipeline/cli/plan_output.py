"""Text of prep plan: tables of subjects and image sizes, steps, and usual settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.commands.plan import BucketPlan, SubjectPlan, TrainingPlan
from pipeline.plural import counted
from pipeline.tag_text import escape_control
from training.methods.adapter_method import STEPS_PER_IMAGE
from training.methods.dreambooth import FACE
from training.methods.textual_inversion import USUAL_LR, USUAL_STEPS


def plan_lines(plan: TrainingPlan) -> Iterator[str]:
    """The plan as aligned text."""
    rows: list[tuple[str, ...]] = [("subject", "class", "images", "repeats", "per epoch", "balanced repeats")]
    rows += map(_subject_row, plan.subjects)
    rows += [("", r.class_name, f"{r.images:,}", "", f"{r.per_epoch:,}", "reg") for r in plan.regularization]
    yield from _table(rows, "<<>>>>")
    yield ""
    sizes: list[tuple[str, ...]] = [("size", "images", "per epoch", f"batches of {plan.batch_size}", "not full")]
    yield from _table([*sizes, *map(_bucket_row, plan.buckets)], "<>>>>")
    yield ""
    held_out = f"; {counted(plan.validation, 'image')} held out for validation" if plan.validation else ""
    duration = "as given" if plan.steps_given else counted(plan.epochs, "epoch")
    yield f"{counted(plan.steps_per_epoch, 'step')} per epoch, {duration}: {counted(plan.steps, 'step')}{held_out}"
    yield f"from {plan.source}"
    if plan.remark:
        yield from ("", plan.remark)
    yield ""
    yield from _usual_settings(plan)


def _subject_row(subject: SubjectPlan) -> tuple[str, ...]:
    augmented = subject.sources != subject.images
    images = f"{subject.sources:,} as {subject.images:,}" if augmented else f"{subject.sources:,}"
    numbers = (f"{subject.repeats:g}", f"{subject.per_epoch:,}", f"{subject.balanced_repeats}")
    return (subject.token, subject.class_name, images, *numbers)


def _bucket_row(bucket: BucketPlan) -> tuple[str, ...]:
    size, partial = f"{bucket.width} x {bucket.height}", f"{bucket.partial_batches or '-'}"
    return (size, f"{bucket.images:,}", f"{bucket.per_epoch:,}", f"{bucket.batches:,}", partial)


def _usual_settings(plan: TrainingPlan) -> Iterator[str]:
    """Steps, learning rates and vectors that are usual for so many images, a line or two per method."""
    epochs = max(1, round(plan.suggested_steps / plan.steps_per_epoch))
    basis = f"{STEPS_PER_IMAGE} per image, at batch size {plan.batch_size}"
    yield f"LoRA: about {plan.suggested_steps:,} steps ({basis}): --epochs {epochs}"
    for subject in plan.subjects:
        kind = "a face" if subject.dreambooth_steps == FACE[0] else "an object"
        steps = f"about {subject.dreambooth_steps:,} steps at a learning rate of {subject.dreambooth_rate}"
        yield f"DreamBooth, {escape_control(subject.token)}: {steps}, as for {kind}"
    for subject in plan.subjects:
        low, high = subject.vectors
        vectors = f"{low}" if low == high else f"{low} to {high}"
        yield f"Textual inversion, {escape_control(subject.token)}: {vectors} vectors, {USUAL_STEPS:,} steps or more"
    yield f'  with --embedding-lr "{USUAL_LR}"'
    if unbalanced := [subject for subject in plan.subjects if subject.repeats != subject.balanced_repeats]:
        repeats = ", ".join(f"{escape_control(s.token)} repeats = {s.balanced_repeats}" for s in unbalanced)
        yield f"To balance the subjects, in prep.toml: {repeats}"


def _table(rows: Sequence[tuple[str, ...]], alignments: str) -> Iterator[str]:
    """Rows in columns, each aligned to '<' the left or '>' the right."""
    cells = [[escape_control(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        columns = zip(row, alignments, widths, strict=True)
        yield "  ".join(f"{cell:{side}{width}}" for cell, side, width in columns).rstrip()
