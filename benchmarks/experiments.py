"""Experiments on training choices in the generated world: python benchmarks/world.py NAME ...

Each experiment trains the same subject in several variants with prep's own commands, from images to samples, and
scores the samples with mini-tagger. A variant is run with several seeds, which choose images, noise and samples.

Columns: subject fidelity (share of samples of the trigger alone that show the subject), prompt adherence (share of
the places and actions prompted with the trigger that are visible), class leakage (share of samples of the class
alone that show the subject).
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.sample_scores import (
    PLACES,
    SamplePrompt,
    SampleScores,
    detect_tags,
    prompts,
    score_samples,
    subject_tags,
)
from benchmarks.training_variants import TrainingVariant, short_train_options
from sample_data.mini.scoring import DIFFUSION, TAGGER
from sample_data.world.render import render_scene
from sample_data.world.scene import cast_scene, class_scene

SUBJECT, CLASS = "smith", "1boy"
SIDE = 64  # size of a crop in pixels
SOURCE_SIDE = 128  # size of a source image in pixels
PER_KIND = 32  # prompts for each score
SAMPLING_STEPS = 12  # sampling steps
SAMPLE_BATCH_SIZE = 16  # images sampled together
QUICK = short_train_options(learning_rate=2e-3, steps=100)  # training of an adapter that only generates more images
CANDIDATES_PER_IMAGE = 4  # images generated for each one that is kept


@dataclass(frozen=True, slots=True)
class ExperimentResult:
    """The result of one variant with one seed."""

    variant: str
    seed: int
    base_scores: SampleScores | None  # None where the base model was not sampled
    scores: SampleScores
    seconds: float  # of prep train, sampling included
    size: int  # of the exported file in bytes


def run_variant(variant: TrainingVariant, seed: int, home: Path) -> ExperimentResult:
    """Run one variant, from images to scores, in new workspaces below `home`."""
    draw_images(variant, seed, home / "images")
    if variant.generated_images:
        add_generated_images(variant, seed, home)
    sample_prompts = prompts(SUBJECT, CLASS, PER_KIND)
    seconds = train(variant, seed, home, sample_prompts)
    by_step = read_samples(home / "workspace" / "runs" / "run")
    subject = subject_tags(SUBJECT)
    base, trained = by_step.get(0), by_step[max(by_step)]
    base_scores = score_samples(sample_prompts, detect_tags(base), subject) if base else None
    scores = score_samples(sample_prompts, detect_tags(trained), subject)
    files = [path for path in (home / "workspace" / "runs" / "run").rglob("run*.safetensors") if path.is_file()]
    size = max((path.stat().st_size for path in files), default=0)
    return ExperimentResult(variant.name, seed, base_scores, scores, seconds, size)


def draw_images(variant: TrainingVariant, seed: int, folder: Path) -> None:
    """Render images of the subject and of its class, different ones for each seed."""
    for number in range(variant.num_images):
        _save(folder / SUBJECT, number, cast_scene(SUBJECT, 1_000 * (seed + 1) + number))
    for number in range(variant.num_class_images):
        _save(folder / "class", number, class_scene("boy", 1_000 * (seed + 1) + number))


def add_generated_images(variant: TrainingVariant, seed: int, home: Path) -> None:
    """Generate images of the subject with a quickly trained adapter, and add those that show the subject."""
    quick_variant = dataclasses.replace(variant, tables=variant.tables | QUICK, class_images=0)
    sample_prompts = [
        SamplePrompt(f"{SUBJECT}, {PLACES[n % len(PLACES)]}", "subject")
        for n in range(CANDIDATES_PER_IMAGE * variant.generated_images)
    ]
    draft = home / "draft"
    shutil.copytree(home / "images", draft / "images")
    train(quick_variant, seed, draft, sample_prompts)
    by_step, subject = read_samples(draft / "workspace" / "runs" / "run"), subject_tags(SUBJECT)
    images = by_step[max(by_step)]
    accepted = [image for image, seen in zip(images, detect_tags(images), strict=True) if subject.is_shown(seen)]
    for number, image in enumerate(accepted[: variant.generated_images]):
        shutil.copy(image, home / "images" / SUBJECT / f"generated-{number:03d}.png")


def train(variant: TrainingVariant, seed: int, home: Path, sample_prompts: list[SamplePrompt]) -> float:
    """Run the whole pipeline on the images below `home`; returns the seconds of prep train, sampling included."""
    workspace = home / "workspace"
    (home / "prompts.txt").write_text(
        "\n".join(
            f"{p.text} --w {SIDE} --h {SIDE} --l 4 --s {SAMPLING_STEPS} --d {1_000 * seed + n}"
            for n, p in enumerate(sample_prompts)
        ),
        "utf-8",
    )
    _init_workspace(variant, seed, home / "images", workspace)
    for stage in ("crop", *(["augment"] if "augment" in variant.tables else []), "tag"):
        prep(workspace, stage)
    if variant.captions in ("merged", "class tag kept"):
        rows = [line.split("\t") for line in prep(workspace, "merge", "--suggest").splitlines() if "\t" in line]
        undecided = [tag for _, tag, action, *_ in rows if action == "review"]  # a user would accept them
        if variant.captions == "class tag kept":
            undecided.remove(CLASS)
        prep(workspace, "merge", "--accept", *(word for tag in undecided for word in ("--absorb", tag)))
        prep(workspace, "merge")
    else:
        prep(workspace, "merge", *(["--template", "{trigger}"] if variant.captions == "none" else []))
    prep(workspace, "build")
    start = time.perf_counter()
    prep(workspace, "train", "--skip-checks", "--quiet", "--sample-prompts", home / "prompts.txt")
    return time.perf_counter() - start


def prep(workspace: Path, *words: object) -> str:
    """Run a command of prep in this process; returns its output."""
    from pipeline.cli.main import cli

    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        cli(["-C", str(workspace), *map(str, words)], standalone_mode=False)
    return output.getvalue()


def _init_workspace(variant: TrainingVariant, seed: int, sources: Path, workspace: Path) -> None:
    from pipeline.commands.init import InitOptions, init
    from pipeline.registry import tables as stages

    tables: dict[str, dict[str, Any]] = {
        "crop": {"resolution": SIDE, "focus": "center"},
        "tag.wd14": {"model": str(TAGGER)},
        "train": {"base": str(DIFFUSION), "seed": seed, "sample_batch_size": SAMPLE_BATCH_SIZE},
    }
    for name, more in variant.tables.items():
        tables[name] = tables.get(name, {}) | more
    regularization = ((CLASS, str(sources / "class")),) if variant.num_class_images else ()
    subjects = ((SUBJECT, CLASS, str(sources / SUBJECT)),)
    init(workspace, InitOptions(subjects, regularization, tables), stages(("wd14",)))


def _save(folder: Path, number: int, scene: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    render_scene(scene, SOURCE_SIDE, SOURCE_SIDE).save(folder / f"{number:03d}.png")


def read_samples(run: Path) -> dict[int, list[Path]]:
    """The samples of a run by step (0: the base model), in the order of the prompts."""
    import pyarrow.parquet as pq

    by_step: dict[int, list[Path]] = {}
    for row in sorted(pq.ParquetFile(run / "samples.parquet").read().to_pylist(), key=lambda row: row["number"]):
        by_step.setdefault(row["step"], []).append(run / row["file"])
    return by_step


def table(outcomes: list[ExperimentResult]) -> str:
    """A table of medians and ranges over seeds, one line per variant, the base model first."""
    names = [field.name for field in dataclasses.fields(SampleScores)]
    lines = [f"{'':<26}" + "".join(f"{name.replace('_', ' '):>18}" for name in names) + f"{'seconds':>10}{'kB':>8}"]
    rows: dict[str, list[tuple[SampleScores, float, int]]] = {
        "base model": [(o.base_scores, 0, 0) for o in outcomes if o.base_scores]
    }
    for one in outcomes:
        rows.setdefault(one.variant, []).append((one.scores, one.seconds, one.size))
    for variant, found in rows.items():
        cells = [_spread([getattr(verdict, name) for verdict, _, _ in found]) for name in names]
        seconds, size = (statistics.median(row[at] for row in found) for at in (1, 2))
        tail = f"{seconds:>10.0f}{size / 1000:>8.0f}" if size else ""
        lines.append(f"{variant:<26}" + "".join(f"{cell:>18}" for cell in cells) + tail)
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    median = f"{100 * statistics.median(values):.0f} %"
    return median if len(values) == 1 else f"{median} ({100 * min(values):.0f}-{100 * max(values):.0f})"
