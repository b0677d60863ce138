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

from benchmarks.arms import Arm, short
from benchmarks.judge import PLACES, Prompt, Verdict, judge, looks_of, prompts, see
from sample_data.mini.judge import PAINTER, TAGGER
from sample_data.world.render import paint
from sample_data.world.scene import cast_scene, class_scene

SUBJECT, CLASS = "smith", "1boy"
SIDE = 64  # pixels of a crop
SOURCE = 128  # pixels of a rendered source
EACH = 32  # samples of every kind of prompt
SAMPLING = 12  # steps of a sample
AT_ONCE = 16  # samples painted together
QUICK = short(learning_rate=2e-3, steps=100)  # how an adapter learns that only paints more images
CHOICE = 4  # times as many images as are wanted are painted


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an arm came to with one seed."""

    arm: str
    seed: int
    base: Verdict | None  # where it painted, too
    trained: Verdict
    seconds: float  # of prep train, its samples included
    size: int  # bytes of the file


def run(arm: Arm, seed: int, home: Path) -> Outcome:
    """Everything from images to the verdict, in new workspaces below `home`."""
    draw(arm, seed, home / "images")
    if arm.painted:
        paint_more(arm, seed, home)
    asked = prompts(SUBJECT, CLASS, EACH)
    seconds = train(arm, seed, home, asked)
    shown = samples(home / "workspace" / "runs" / "run")
    looks = looks_of(SUBJECT)
    base, trained = (judge(asked, see(shown[at]), looks) if at in shown else None for at in (0, max(shown)))
    assert trained is not None
    files = [path for path in (home / "workspace" / "runs" / "run").rglob("run*.safetensors") if path.is_file()]
    return Outcome(arm.name, seed, base, trained, seconds, max((path.stat().st_size for path in files), default=0))


def draw(arm: Arm, seed: int, folder: Path) -> None:
    """Images of the subject and of its class, others with every seed."""
    for number in range(arm.images):
        _save(folder / SUBJECT, number, cast_scene(SUBJECT, 1_000 * (seed + 1) + number))
    for number in range(arm.class_images):
        _save(folder / "class", number, class_scene("boy", 1_000 * (seed + 1) + number))


def paint_more(arm: Arm, seed: int, home: Path) -> None:
    """Paint images of the subject with an adapter that a few hundred quick steps teach; put the good ones to it.

    Good are those that show the subject.
    """
    quick = dataclasses.replace(arm, tables=arm.tables | QUICK, class_images=0)
    asked = [Prompt(f"{SUBJECT}, {PLACES[n % len(PLACES)]}", "bound") for n in range(CHOICE * arm.painted)]
    draft = home / "draft"
    shutil.copytree(home / "images", draft / "images")
    train(quick, seed, draft, asked)
    shown, looks = samples(draft / "workspace" / "runs" / "run"), looks_of(SUBJECT)
    images = shown[max(shown)]
    good = [image for image, seen in zip(images, see(images), strict=True) if looks.seen_in(seen)]
    for number, image in enumerate(good[: arm.painted]):
        shutil.copy(image, home / "images" / SUBJECT / f"painted-{number:03d}.png")


def train(arm: Arm, seed: int, home: Path, asked: list[Prompt]) -> float:
    """The whole line on the images below `home`; returns the seconds of prep train, samples included."""
    workspace = home / "workspace"
    (home / "prompts.txt").write_text(
        "\n".join(
            f"{p.text} --w {SIDE} --h {SIDE} --l 4 --s {SAMPLING} --d {1_000 * seed + n}" for n, p in enumerate(asked)
        ),
        "utf-8",
    )
    _begin(arm, seed, home / "images", workspace)
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


def _begin(arm: Arm, seed: int, sources: Path, workspace: Path) -> None:
    from pipeline.commands.init import InitOptions, init
    from pipeline.registry import tables as stages

    tables: dict[str, dict[str, Any]] = {
        "crop": {"resolution": SIDE, "focus": "center"},
        "tag.wd14": {"model": str(TAGGER)},
        "train": {"base": str(PAINTER), "seed": seed, "sample_batch_size": AT_ONCE},
    }
    for name, more in arm.tables.items():
        tables[name] = tables.get(name, {}) | more
    regularization = ((CLASS, str(sources / "class")),) if arm.class_images else ()
    subjects = ((SUBJECT, CLASS, str(sources / SUBJECT)),)
    init(workspace, InitOptions(subjects, regularization, tables), stages(("wd14",)))


def _save(folder: Path, number: int, scene: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    paint(scene, SOURCE, SOURCE).save(folder / f"{number:03d}.png")


def samples(run: Path) -> dict[int, list[Path]]:
    """The samples of a run by step, 0 being the base's, each in the order of the prompts."""
    import pyarrow.parquet as pq

    shown: dict[int, list[Path]] = {}
    for row in sorted(pq.ParquetFile(run / "samples.parquet").read().to_pylist(), key=lambda row: row["number"]):
        shown.setdefault(row["step"], []).append(run / row["file"])
    return shown


def table(outcomes: list[Outcome]) -> str:
    """Medians with their ranges over seeds, an arm a line, the base first."""
    names = [f.name for f in dataclasses.fields(Verdict)]
    lines = [f"{'':<22}" + "".join(f"{name:>18}" for name in names) + f"{'seconds':>10}{'kB':>8}"]
    rows: dict[str, list[tuple[Verdict, float, int]]] = {"the base": [(o.base, 0, 0) for o in outcomes if o.base]}
    for one in outcomes:
        rows.setdefault(one.arm, []).append((one.trained, one.seconds, one.size))
    for arm, found in rows.items():
        cells = [_spread([getattr(verdict, name) for verdict, _, _ in found]) for name in names]
        seconds, size = (statistics.median(row[at] for row in found) for at in (1, 2))
        tail = f"{seconds:>10.0f}{size / 1000:>8.0f}" if size else ""
        lines.append(f"{arm:<22}" + "".join(f"{cell:>18}" for cell in cells) + tail)
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    median = f"{100 * statistics.median(values):.0f} %"
    return median if len(values) == 1 else f"{median} ({100 * min(values):.0f}-{100 * max(values):.0f})"
