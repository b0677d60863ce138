"""The data of a training run's report: plain values, the same for the page and for `prep report train --json`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PrepError
from pipeline.options import format_value
from pipeline.parquet_rows import read_rows
from pipeline.stage import Options
from pipeline.workspace import Workspace
from training.evaluation.outliers import Outlier
from training.evaluation.run_notes import epoch_files, file_bytes, read_results, result_file, usage
from training.options.train_options import TrainOptions
from training.sampling.sample_callback import SampleResult

SUMMARY = "run.json"
_DRY_RUN = "dry_run.json"  # only the folder of a dry run has it


@dataclass(frozen=True, slots=True)
class Setting:
    """One option of a run."""

    section: str
    name: str
    value: str
    default: str

    @property
    def is_default(self) -> bool:
        return self.value == self.default


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a run is, in a few values."""

    method: str
    base: str
    steps: int
    epochs: int
    images: int  # of the subjects, each counted as often as an epoch shows it
    regularization: int  # regularization images
    resolution: str  # the most frequent size
    dataset: str  # digest of the manifest that it was trained on
    too_long: int  # images whose captions are cut off


@dataclass(frozen=True, slots=True)
class RunEvaluation:
    """The mean errors at one step, as shares of the base model's, and the verdict; None for a subset without images."""

    step: int  # 0: the base model
    train: float | None
    validation: float | None
    reg: float | None
    verdict: str = ""  # empty for the base model
    reason: str = ""
    best: bool = False


@dataclass(frozen=True, slots=True)
class RunReport:
    """All data of one report."""

    name: str
    file: str  # the file to use, relative to the workspace
    size: int  # of the file, in bytes
    facts: RunFacts
    loss: dict[str, float] | None  # means of the first and the last steps
    usage: dict[str, str]  # how to use the file, by program
    evaluations: tuple[RunEvaluation, ...]
    epoch_files: tuple[str, ...]
    outliers: tuple[Outlier, ...]
    samples: tuple[SampleResult, ...]
    settings: tuple[Setting, ...]

    @property
    def verdict(self) -> str:
        """The verdict on the step whose weights the file has; 'none' without validation."""
        return next((one.verdict for one in self.evaluations if one.verdict and one.step == self.facts.steps), "none")

    @property
    def sampled_steps(self) -> list[int]:
        return sorted({sample.step for sample in self.samples})


def find_run(workspace: Workspace, name: str = "") -> Path:
    """The folder of a finished run, by default of the latest; PrepError if there is none."""
    finished = sorted(workspace.runs.glob(f"*/{SUMMARY}"), key=lambda path: path.stat().st_mtime)
    folders = [path.parent for path in finished if not (path.parent / _DRY_RUN).is_file()]
    if not folders:
        raise PrepError("No run has finished in this workspace.", "Train one: prep train --help")
    if not name:
        return folders[-1]
    if found := next((folder for folder in folders if folder.name == name), None):
        return found
    if name in {path.name for path in workspace.runs.iterdir() if path.is_dir()}:
        raise PrepError(f"The run {name} has not finished.", f"Its samples so far: {workspace.runs / name / 'samples'}")
    raise PrepError(f"There is no run {name!r}.", f"Finished runs: {', '.join(sorted(f.name for f in folders))}.")


def read_run(folder: Path, workspace: Workspace) -> RunReport:
    """The report of a finished run; PrepError if its run.json cannot be read."""
    results = read_results(folder / SUMMARY)
    if not results:
        raise PrepError(f"{folder / SUMMARY} cannot be read.", "Train the run again: prep train --restart")
    file = result_file(folder, results)
    return RunReport(
        name=folder.name,
        file=workspace.relative(file),
        size=file_bytes(file),
        facts=_facts(results),
        loss=results.get("loss"),
        usage=usage(file, results),
        evaluations=tuple(RunEvaluation(**one) for one in results.get("validation", ())),
        epoch_files=tuple(epoch_files(folder)),
        outliers=tuple(one for one in _rows(folder / "outliers.parquet", Outlier) if one.is_outlier),
        samples=tuple(_rows(folder / "samples.parquet", SampleResult)),
        settings=tuple(_settings(TrainOptions, results["train"])),
    )


def run_json(data: RunReport) -> dict[str, Any]:
    """The data as JSON values."""
    return dataclasses.asdict(data)


def _facts(results: dict[str, Any]) -> RunFacts:
    about = results.get("metadata", {})
    return RunFacts(
        method=results["train"]["method"],
        base=about.get("ss_sd_model_name", ""),
        steps=int(about.get("ss_steps", 0)),
        epochs=int(about.get("ss_epoch", 0)),
        images=int(about.get("ss_num_train_images", 0)),
        regularization=int(about.get("ss_num_reg_images", 0)),
        resolution=about.get("modelspec.resolution", "").replace("x", " x "),
        dataset=about.get("prep_dataset", ""),
        too_long=len(results.get("too_long", ())),
    )


def _settings(group: type[Options], values: dict[str, Any]) -> Iterable[Setting]:
    """The options of a run that had them, by section, with their defaults."""
    for option in group.own_options():
        if option.name in values:
            default = format_value(option.default)
            yield Setting(group.section, option.name, format_value(values[option.name]), default)
    for part in group.option_groups().values():
        yield from _settings(part, values)


def _rows(path: Path, kind: type[Any]) -> list[Any]:
    return read_rows(path, kind) if path.is_file() else []
