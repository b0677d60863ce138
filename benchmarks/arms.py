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
class Arm:
    """One way of training; what it does not say is prep's default."""

    name: str  # two arms of one name are the same
    captions: Literal["merged", "kind kept", "full", "none"] = "merged"
    images: int = 20
    class_images: int = 0  # for regularization
    painted: int = 0  # images that a quick adapter of the others paints first, the good ones of as many more
    tables: Tables = field(default_factory=dict)


def learned(**options: Any) -> Tables:
    """Options of prep train."""
    return {"train": options}


def short(**options: Any) -> Tables:
    """Options of a shortened prep train: two fifths of the images, four at a time; it paints no base."""
    return learned(**({"batch_size": BATCH, "steps": STEPS, "sample_base": False} | options))


MIRRORED: Tables = {"augment": {"flip": True}} | short()
SHORT = Arm("prep, shortened", tables=short(sample_base=True))
EXPERIMENTS: dict[str, tuple[Arm, ...]] = {
    "defaults": (
        Arm("prep's defaults", tables=learned(sample_base=False)),
        Arm("at Stable Diffusion's rate", tables=learned(learning_rate=1e-4, sample_base=False)),
        SHORT,
    ),
    "merging": (
        SHORT,
        Arm("1boy kept", captions="kind kept", tables=short()),
        Arm("all tags kept", captions="full", tables=short()),
        Arm("trigger alone", captions="none", tables=short()),
    ),
    "regularization": (SHORT, Arm("with class images", class_images=100, tables=short(steps=2 * STEPS))),
    "options": (
        SHORT,
        Arm("mirrored", tables=MIRRORED),
        Arm("tags shuffled", tables=short(shuffle_caption=True)),
        Arm("caption dropout 0.1", tables=short(caption_dropout=0.1)),
        Arm("noise offset 0.1", tables=short(noise_offset=0.1)),
        Arm("rank 4", tables=short(rank=4)),
        Arm("rank 64", tables=short(rank=64)),
        Arm("text encoder too", tables=short(text_encoder_lr=5e-4)),
    ),
    "few": (
        Arm("five images", images=5, tables=short()),
        Arm("five, mirrored", images=5, tables=MIRRORED),
        Arm("five, mirrored, painted", images=5, painted=15, tables=MIRRORED),
        SHORT,
    ),
    "methods": (
        SHORT,
        Arm("locon", tables=short(method="locon", conv_rank=8)),
        Arm("loha", tables=short(method="loha")),
        Arm("lokr", tables=short(method="lokr")),
        Arm("dora", tables=short(method="dora")),
        Arm("dreambooth", tables=short(method="dreambooth")),
        # Embeddings take thousands of steps: as many images, one at a time.
        Arm("textual inversion", tables=short(method="textual-inversion", batch=1, steps=BATCH * STEPS)),
    ),
}
