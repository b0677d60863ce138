"""What prep's choices do to a subject, in a world whose truth is known: python benchmarks/world.py NAME ...

Every experiment trains the same subject in several ways ("arms"), by prep's own commands, from images to samples;
the mini-tagger judges the samples. An arm is run with several seeds, which choose images, noise and samples.

The columns: how many samples of the trigger alone show the subject ("bound"), how much of what was prompted beside the
trigger is seen ("follow"), and how many samples of its class alone show the subject all the same ("drift").
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

from benchmarks.training_variants import TrainingVariant, short_train_options
from benchmarks.sample_scores import (
    PLACES,
    SamplePrompt,
    SampleScores,
    score_samples,
    subject_tags,
    prompts,
    detect_tags,
)
from sample_data.mini.scoring import DIFFUSION, TAGGER
from sample_data.world.render import render_scene
from sample_data.world.scene import cast_scene, class_scene

SUBJECT, CLASS = "smith", "1boy"
SIDE = 64  # pixels of a crop
SOURCE_SIDE = 128  # pixels of a rendered source
PER_KIND = 32  # samples of every kind of prompt
SAMPLING_STEPS = 12  # steps of a sample
SAMPLE_BATCH_SIZE = 16  # samples painted together
QUICK = short_train_options(learning_rate=2e-3, steps=100)  # how an adapter learns that only paints more images
CANDIDATES_PER_IMAGE = 4  # times as many images as are wanted are painted


@dataclass(frozen=True, slots=True)
class ExperimentResult:
    """What an arm came to with one seed."""

    variant: str
    seed: int
    base_scores: SampleScores | None  # where it painted, too
    scores: SampleScores
    seconds: float  # of prep train, its samples included
    size: int  # bytes of the file


def run_variant(arm: TrainingVariant, seed: int, home: Path) -> ExperimentResult:
    """Everything from images to the verdict, in new workspaces below `home`."""
    draw_images(arm, seed, home / "images")
    if arm.generated_images:
        add_generated_images(arm, seed, home)
    asked = prompts(SUBJECT, CLASS, PER_KIND)
    seconds = train(arm, seed, home, asked)
    shown = read_samples(home / "workspace" / "runs" / "run")
    looks = subject_tags(SUBJECT)
    base, trained = (
        score_samples(asked, detect_tags(shown[at]), looks) if at in shown else None for at in (0, max(shown))
    )
    assert trained is not None
    files = [path for path in (home / "workspace" / "runs" / "run").rglob("run*.safetensors") if path.is_file()]
    return ExperimentResult(
        arm.name, seed, base, trained, seconds, max((path.stat().st_size for path in files), default=0)
    )


def draw_images(arm: TrainingVariant, seed: int, folder: Path) -> None:
    """Images of the subject and of its class, others with every seed."""
    for number in range(arm.num_images):
        _save(folder / SUBJECT, number, cast_scene(SUBJECT, 1_000 * (seed + 1) + number))
    for number in range(arm.num_class_images):
        _save(folder / "class", number, class_scene("boy", 1_000 * (seed + 1) + number))


def add_generated_images(arm: TrainingVariant, seed: int, home: Path) -> None:
    """Paint images of the subject with an adapter that a few hundred quick steps teach; put the good ones to it.

    Good are those that show the subject.
    """
    quick = dataclasses.replace(arm, tables=arm.tables | QUICK, class_images=0)
    asked = [
        SamplePrompt(f"{SUBJECT}, {PLACES[n % len(PLACES)]}", "bound")
        for n in range(CANDIDATES_PER_IMAGE * arm.generated_images)
    ]
    draft = home / "draft"
    shutil.copytree(home / "images", draft / "images")
    train(quick, seed, draft, asked)
    shown, looks = read_samples(draft / "workspace" / "runs" / "run"), subject_tags(SUBJECT)
    images = shown[max(shown)]
    good = [image for image, seen in zip(images, detect_tags(images), strict=True) if looks.is_shown(seen)]
    for number, image in enumerate(good[: arm.generated_images]):
        shutil.copy(image, home / "images" / SUBJECT / f"painted-{number:03d}.png")


def train(arm: TrainingVariant, seed: int, home: Path, asked: list[SamplePrompt]) -> float:
    """The whole line on the images below `home`; returns the seconds of prep train, samples included."""
    workspace = home / "workspace"
    (home / "prompts.txt").write_text(
        "\n".join(
            f"{p.text} --w {SIDE} --h {SIDE} --l 4 --s {SAMPLING_STEPS} --d {1_000 * seed + n}"
            for n, p in enumerate(asked)
        ),
        "utf-8",
    )
    _init_workspace(arm, seed, home / "images", workspace)
    for stage in ("crop", *(["augment"] if "augment" in arm.tables else []), "tag"):
        prep(workspace, stage)
    if arm.captions in ("merged", "kind kept"):
        rows = [line.split("\t") for line in prep(workspace, "merge", "--suggest").splitlines() if "\t" in line]
        doubtful = [tag for _, tag, action, *_ in rows if action == "review"]  # whoever knows the subject says yes
        if arm.captions == "kind kept":
            doubtful.remove(CLASS)
        prep(workspace, "merge", "--accept", *(word for tag in doubtful for word in ("--absorb", tag)))
        prep(workspace, "merge")
    else:
        prep(workspace, "merge", *(["--template", "{trigger}"] if arm.captions == "none" else []))
    prep(workspace, "build")
    start = time.perf_counter()
    prep(workspace, "train", "--skip-checks", "--quiet", "--sample-prompts", home / "prompts.txt")
    return time.perf_counter() - start


def prep(workspace: Path, *words: object) -> str:
    """A command of prep's, in this process; what it prints."""
    from pipeline.cli.main import cli

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        cli(["-C", str(workspace), *map(str, words)], standalone_mode=False)
    return said.getvalue()


def _init_workspace(arm: TrainingVariant, seed: int, sources: Path, workspace: Path) -> None:
    from pipeline.commands.init import InitOptions, init
    from pipeline.registry import tables as stages

    tables: dict[str, dict[str, Any]] = {
        "crop": {"resolution": SIDE, "focus": "center"},
        "tag.wd14": {"model": str(TAGGER)},
        "train": {"base": str(DIFFUSION), "seed": seed, "sample_batch_size": SAMPLE_BATCH_SIZE},
    }
    for name, more in arm.tables.items():
        tables[name] = tables.get(name, {}) | more
    regularization = ((CLASS, str(sources / "class")),) if arm.num_class_images else ()
    subjects = ((SUBJECT, CLASS, str(sources / SUBJECT)),)
    init(workspace, InitOptions(subjects, regularization, tables), stages(("wd14",)))


def _save(folder: Path, number: int, scene: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    render_scene(scene, SOURCE_SIDE, SOURCE_SIDE).save(folder / f"{number:03d}.png")


def read_samples(run: Path) -> dict[int, list[Path]]:
    """The samples of a run by step, 0 being the base's, each in the order of the prompts."""
    import pyarrow.parquet as pq

    shown: dict[int, list[Path]] = {}
    for row in sorted(pq.ParquetFile(run / "samples.parquet").read().to_pylist(), key=lambda row: row["number"]):
        shown.setdefault(row["step"], []).append(run / row["file"])
    return shown


def table(outcomes: list[ExperimentResult]) -> str:
    """Medians with their ranges over seeds, an arm a line, the base first."""
    names = [f.name for f in dataclasses.fields(SampleScores)]
    lines = [f"{'':<22}" + "".join(f"{name:>18}" for name in names) + f"{'seconds':>10}{'kB':>8}"]
    rows: dict[str, list[tuple[SampleScores, float, int]]] = {
        "the base": [(o.base_scores, 0, 0) for o in outcomes if o.base_scores]
    }
    for one in outcomes:
        rows.setdefault(one.variant, []).append((one.scores, one.seconds, one.size))
    for arm, found in rows.items():
        cells = [_spread([getattr(verdict, name) for verdict, _, _ in found]) for name in names]
        seconds, size = (statistics.median(row[at] for row in found) for at in (1, 2))
        tail = f"{seconds:>10.0f}{size / 1000:>8.0f}" if size else ""
        lines.append(f"{arm:<22}" + "".join(f"{cell:>18}" for cell in cells) + tail)
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    median = f"{100 * statistics.median(values):.0f} %"
    return median if len(values) == 1 else f"{median} ({100 * min(values):.0f}-{100 * max(values):.0f})"
