"""The ways of training that benchmarks/experiments.py compares.

But for prep's defaults themselves, all are shortened alike, so that each takes a minute or two; beside that, each
differs from prep's defaults in what its name says, and in nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Tables = dict[str, dict[str, Any]]  # of prep.toml
STEPS, BATCH = 200, 4  # of images of the subject, however many there are


@dataclass(frozen=True, slots=True)
class TrainingVariant:
    """One way of training; what it does not say is prep's default."""

    name: str  # two arms of one name are the same
    captions: Literal["merged", "kind kept", "full", "none"] = "merged"
    num_images: int = 20
    num_class_images: int = 0  # for regularization
    generated_images: int = 0  # images that a quick adapter of the others paints first, the good ones of as many more
    tables: Tables = field(default_factory=dict)


def train_options(**options: Any) -> Tables:
    """Options of prep train."""
    return {"train": options}


def short_train_options(**options: Any) -> Tables:
    """Options of a shortened prep train: two fifths of the images, four at a time; it paints no base."""
    return train_options(**({"batch_size": BATCH, "steps": STEPS, "sample_base": False} | options))


FLIPPED: Tables = {"augment": {"flip": True}} | short_train_options()
SHORTENED = TrainingVariant("prep, shortened", tables=short_train_options(sample_base=True))
EXPERIMENTS: dict[str, tuple[TrainingVariant, ...]] = {
    "defaults": (
        TrainingVariant("prep's defaults", tables=train_options(sample_base=False)),
        TrainingVariant("at Stable Diffusion's rate", tables=train_options(learning_rate=1e-4, sample_base=False)),
        SHORTENED,
    ),
    "merging": (
        SHORTENED,
        TrainingVariant("1boy kept", captions="kind kept", tables=short_train_options()),
        TrainingVariant("all tags kept", captions="full", tables=short_train_options()),
        TrainingVariant("trigger alone", captions="none", tables=short_train_options()),
    ),
    "regularization": (
        SHORTENED,
        TrainingVariant("with class images", num_class_images=100, tables=short_train_options(steps=2 * STEPS)),
    ),
    "options": (
        SHORTENED,
        TrainingVariant("mirrored", tables=FLIPPED),
        TrainingVariant("tags shuffled", tables=short_train_options(shuffle_caption=True)),
        TrainingVariant("caption dropout 0.1", tables=short_train_options(caption_dropout=0.1)),
        TrainingVariant("noise offset 0.1", tables=short_train_options(noise_offset=0.1)),
        TrainingVariant("rank 4", tables=short_train_options(rank=4)),
        TrainingVariant("rank 64", tables=short_train_options(rank=64)),
        TrainingVariant("text encoder too", tables=short_train_options(text_encoder_lr=5e-4)),
    ),
    "few": (
        TrainingVariant("five images", num_images=5, tables=short_train_options()),
        TrainingVariant("five, mirrored", num_images=5, tables=FLIPPED),
        TrainingVariant("five, mirrored, painted", num_images=5, generated_images=15, tables=FLIPPED),
        SHORTENED,
    ),
    "methods": (
        SHORTENED,
        TrainingVariant("locon", tables=short_train_options(method="locon", conv_rank=8)),
        TrainingVariant("loha", tables=short_train_options(method="loha")),
        TrainingVariant("lokr", tables=short_train_options(method="lokr")),
        TrainingVariant("dora", tables=short_train_options(method="dora")),
        TrainingVariant("dreambooth", tables=short_train_options(method="dreambooth")),
        # Embeddings take thousands of steps: as many images, one at a time.
        TrainingVariant(
            "textual inversion", tables=short_train_options(method="textual-inversion", batch_size=1, steps=BATCH * STEPS)
        ),
    ),
}
