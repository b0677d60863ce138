"""What prep's choices do to a subject, in a world whose truth is known: python benchmarks/experiments.py [NAME ...].

Every experiment trains the same subject in several ways ("arms"), by prep's own commands, from pictures to samples;
the mini-tagger judges the samples. An arm is run with several seeds, which choose pictures, noise and samples.

    python benchmarks/experiments.py merging --seeds 3 --json F
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.judge import Prompt, Verdict, judge, own_tags, prompts, see
from sample_data.mini.judge import PAINTER, TAGGER
from sample_data.world.paint import paint
from sample_data.world.scene import cast_scene, class_scene

SUBJECT, CLASS = "smith", "1boy"
SIDE = 64  # pixels of a crop
SOURCE = 128  # pixels of a rendered source
EACH = 24  # samples of every kind of prompt


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of training; what it does not say is prep's default."""

    name: str
    captions: Literal["merged", "full", "none"] = "merged"
    pictures: int = 20
    class_pictures: int = 0  # for regularization
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)  # of prep.toml


def learned(**options: Any) -> dict[str, dict[str, Any]]:
    return {"train": options}


EXPERIMENTS: dict[str, tuple[Arm, ...]] = {
    "defaults": (Arm("prep's defaults"),),
    "merging": (
        Arm("tags absorbed"),
        Arm("all tags kept", captions="full"),
        Arm("trigger alone", captions="none"),
    ),
    "regularization": (Arm("without"), Arm("with class pictures", class_pictures=100)),
    "options": (
        Arm("as it is"),
        Arm("mirrored", tables={"augment": {"mirror": True}}),
        Arm("tags shuffled", tables=learned(shuffle_captions=True)),
        Arm("caption dropout 0.1", tables=learned(caption_dropout=0.1)),
        Arm("noise offset 0.1", tables=learned(noise_offset=0.1)),
        Arm("rank 4", tables=learned(rank=4)),
        Arm("rank 64", tables=learned(rank=64)),
        Arm("text encoder too", tables=learned(text_encoder_rate=5e-5)),
    ),
    "few": (
        Arm("five pictures", pictures=5),
        Arm("five and mirrored", pictures=5, tables={"augment": {"mirror": True}}),
        Arm("twenty pictures"),
    ),
    "methods": tuple(
        Arm(method, tables=learned(method=method, **more))
        for method, more in {
            "lora": {},
            "locon": {"conv_rank": 8},
            "loha": {},
            "lokr": {},
            "dora": {},
            "dreambooth": {"learning_rate": 1e-5},
            "inversion": {},
        }.items()
    ),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an arm came to with one seed."""

    arm: str
    seed: int
    base: Verdict
    trained: Verdict
    seconds: float  # of prep train, its samples included
    size: int  # bytes of the file


def run(arm: Arm, seed: int, home: Path) -> Outcome:
    """Everything from pictures to the verdict, in a new workspace below `home`."""
    sources, workspace = home / "pictures", home / "workspace"
    for number in range(arm.pictures):
        _save(sources / SUBJECT, number, cast_scene(SUBJECT, 1_000 * (seed + 1) + number))
    for number in range(arm.class_pictures):
        _save(sources / "class", number, class_scene("boy", 1_000 * (seed + 1) + number))
    asked = prompts(SUBJECT, CLASS, EACH)
    (home / "prompts.txt").write_text("\n".join(f"{p.text} --w {SIDE} --h {SIDE} --l 4" for p in asked), "utf-8")
    _begin(arm, seed, sources, workspace)
    for stage in ("crop", *(["augment"] if "augment" in arm.tables else []), "tag"):
        prep(workspace, stage)
    if arm.captions == "merged":
        prep(workspace, "merge", "--suggest")
        prep(workspace, "merge", "--accept")
    else:
        prep(workspace, "merge", *(["--template", "{trigger}"] if arm.captions == "none" else []))
    prep(workspace, "build")
    start = time.perf_counter()
    prep(workspace, "train", "--unchecked", "--sample-prompts", home / "prompts.txt")
    seconds = time.perf_counter() - start
    base, trained = (_verdict(asked, folder) for folder in _samples(workspace / "runs" / "run"))
    files = [path for path in (workspace / "runs" / "run").rglob("*.safetensors") if "checkpoint" not in str(path)]
    return Outcome(arm.name, seed, base, trained, seconds, max((path.stat().st_size for path in files), default=0))


def prep(workspace: Path, *words: object) -> str:
    """A command of prep's, in this process; what it prints."""
    from pipeline.cli import cli

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        cli(["-C", str(workspace), *map(str, words)], standalone_mode=False)
    return said.getvalue()


def _begin(arm: Arm, seed: int, sources: Path, workspace: Path) -> None:
    from pipeline.commands.init import Beginning, init
    from pipeline.line import TABLES
    from taggers.danbooru.wd14 import Wd14

    tables: dict[str, dict[str, Any]] = {
        "crop": {"resolution": SIDE, "focus": "centre"},
        "tag.wd14": {"model": str(TAGGER)},
        "train": {"base": str(PAINTER), "seed": seed},
    }
    for name, more in arm.tables.items():
        tables[name] = tables.get(name, {}) | more
    regularization = ((CLASS, str(sources / "class")),) if arm.class_pictures else ()
    subjects = ((SUBJECT, CLASS, str(sources / SUBJECT)),)
    stages: dict[str, Any] = {name: stage for name, stage in TABLES.items() if name != "tag.basic"}
    stages["tag.wd14"] = Wd14
    init(workspace, Beginning(subjects, regularization, tables), stages)


def _save(folder: Path, number: int, scene: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    paint(scene, SOURCE, SOURCE).save(folder / f"{number:03d}.png")


def _samples(folder: Path) -> tuple[list[Path], list[Path]]:
    """The samples of the base and of the last step, each in the order of the prompts."""
    import pyarrow.parquet as pq

    rows = pq.ParquetFile(folder / "samples.parquet").read(["step", "number", "file"]).to_pylist()
    last = max(row["step"] for row in rows)
    first, final = (sorted((r["number"], r["file"]) for r in rows if r["step"] == step) for step in (0, last))
    return [folder / file for _, file in first], [folder / file for _, file in final]


def _verdict(asked: list[Prompt], pictures: list[Path]) -> Verdict:
    return judge(asked, see(pictures), own_tags(SUBJECT))


def table(outcomes: list[Outcome]) -> str:
    """Medians with their ranges over seeds, an arm a line, the base first."""
    names = [f.name for f in dataclasses.fields(Verdict)]
    lines = [f"{'':<22}" + "".join(f"{name:>18}" for name in names) + f"{'seconds':>10}{'kB':>8}"]
    rows: dict[str, list[tuple[Verdict, float, int]]] = {"the base": [(o.base, 0, 0) for o in outcomes]}
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


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(EXPERIMENTS)))
@click.option("--seeds", default=3, help="How often each arm is run.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write every outcome there, too.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep the workspaces in this folder.")
def main(names: tuple[str, ...], seeds: int, file: Path | None, keep: Path | None) -> None:
    """Run experiments, all if none is named, and print what came of them."""
    told: dict[str, list[Outcome]] = {}
    for name in names or EXPERIMENTS:
        outcomes = told.setdefault(name, [])
        for seed in range(seeds):  # arms take turns, so that a busy hour hurts all alike
            for arm in EXPERIMENTS[name]:
                with contextlib.ExitStack() as stack:
                    home = Path(keep or stack.enter_context(tempfile.TemporaryDirectory(prefix="prep-world-")))
                    place = home / f"{name}-{arm.name.replace(' ', '-')}-{seed}"
                    outcomes.append(run(arm, seed, place))
                click.echo(f"  {name}, seed {seed}: {arm.name}: {outcomes[-1].trained}", err=True)
                if file:
                    file.write_text(json.dumps({k: [dataclasses.asdict(o) for o in v] for k, v in told.items()}))
        click.echo(f"\n{name}: {seeds} seeds, medians and ranges\n{table(outcomes)}")


if __name__ == "__main__":
    main()
