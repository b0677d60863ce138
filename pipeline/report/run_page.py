"""The page of `prep report train`: samples, curves, verdicts, outliers and settings of one run."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pipeline.html.document import HtmlPage, check_overwrite, write_page
from pipeline.html.thumbnails import Thumbnail, file_thumbnail
from pipeline.report.run_data import RunReport
from pipeline.stage import ProgressFn
from training.sampling.sample_callback import SampleResult

COMMAND = "prep report train"
_SIDE = 384  # pixels of a sample's longer side: twice its size on the page, for high-density screens
_STEPS = 24  # columns of samples: with four prompts a page of about 3 MB


@dataclass(frozen=True, slots=True)
class PromptSamples:
    """The samples of one prompt, one for each step that is shown; None where there is none."""

    prompt: str
    details: str  # negative prompt, seed and settings
    cells: tuple[SampleCell | None, ...]


@dataclass(frozen=True, slots=True)
class SampleCell:
    """One sample image with its CLIP scores."""

    thumbnail: Thumbnail | None  # None if the file is gone
    scores: str


def write_run_report(data: RunReport, folder: Path, path: Path, progress: ProgressFn) -> None:
    """Write the page of the run in `folder`; PrepError if `path` is a file of something else."""
    check_overwrite(path, COMMAND)
    write_page(path, run_page(data, sample_rows(data, folder, progress), _curves(folder)))


def run_page(data: RunReport, rows: list[PromptSamples], curves: str) -> HtmlPage:
    """The page; `curves` is the figure of the loss curves as base64, empty if there is none."""
    from jinja2 import PackageLoader

    return HtmlPage(
        command=COMMAND,
        title=f"{data.name}: training run",
        templates=PackageLoader("pipeline.report"),
        template="run.html.jinja",
        data={
            "data": data,
            "rows": rows,
            "steps": shown_steps(data.sampled_steps),
            "curves": curves,
            "changed": [setting for setting in data.settings if not setting.is_default],
        },
        style="report.css",
    )


def shown_steps(steps: list[int]) -> list[int]:
    """At most 24 of some steps, evenly spaced, always with the first and the last."""
    if len(steps) <= _STEPS:
        return steps
    last = len(steps) - 1
    return [steps[round(k * last / (_STEPS - 1))] for k in range(_STEPS)]


def sample_rows(data: RunReport, folder: Path, progress: ProgressFn) -> list[PromptSamples]:
    """The samples by prompt, made small in threads."""
    steps = shown_steps(data.sampled_steps)
    by_place = {(sample.number, sample.step): sample for sample in data.samples}
    numbers = sorted({sample.number for sample in data.samples})
    files = {place: _sample_file(folder, one) for place, one in by_place.items()}
    wanted = [place for place in files if place[1] in steps]
    small: dict[tuple[int, int], Thumbnail | None] = {}
    with ThreadPoolExecutor() as pool:
        for place, made in zip(wanted, pool.map(lambda at: file_thumbnail(files[at], _SIDE), wanted), strict=True):
            small[place] = made
            progress(len(small), len(wanted))
    rows = []
    for number in numbers:
        one = next(sample for sample in reversed(data.samples) if sample.number == number)
        words = (f"not: {one.negative}" if one.negative else "", f"seed {one.seed}", f"{one.steps} steps")
        cells = [
            SampleCell(small[number, step], _scores(by_place[number, step])) if (number, step) in small else None
            for step in steps
        ]
        rows.append(PromptSamples(one.prompt, ", ".join(filter(None, words)), tuple(cells)))
    return rows


def _sample_file(folder: Path, sample: SampleResult) -> Path:
    """Never a file outside the run's folder: runs are shared between people."""
    file = Path(sample.file)
    return folder / "samples" / file.parent.name / file.name


def _scores(sample: SampleResult) -> str:
    """'prompt 0.28, subject 0.81'; empty without CLIP scores."""
    pairs = (("prompt", sample.clip_prompt), ("subject", sample.clip_subject))
    return ", ".join(f"{name} {value:.2f}" for name, value in pairs if value is not None)


def _curves(folder: Path) -> str:
    file = folder / "loss_curves.png"
    return base64.b64encode(file.read_bytes()).decode() if file.is_file() else ""
