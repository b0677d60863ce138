"""What is printed about a finished run: its files, loss and verdict, outliers, and how to use the result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.plural import counted
from pipeline.shell_words import quoted
from training.methods.method import TrainedFile
from training.methods.table import METHODS

_LATEST = 8  # checkpoints whose verdicts are printed, and the best one; run.json has all
_SUFFIX = ".safetensors"
_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def run_notes(summary: Path) -> tuple[str, ...]:
    """The notes of a run from its run.json, each a label and a line; none if it cannot be read."""
    results = read_results(summary)
    if not results:
        return ()
    folder, file = summary.parent, result_file(summary.parent, results)
    step = results.get("metadata", {}).get("ss_steps", "")
    pairs = [("file", f"{_path(file)} ({_size(file)}{f', step {int(step):,}' if step else ''})")]
    if names := epoch_files(folder):
        span = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        pairs += [("epochs", f"{span}: {counted(len(names), 'file')} to choose from")]
    pairs += [("loss", text) for text in _loss(results)]
    pairs += [("verdict", text) for text in _verdicts(results, _prep(folder))]
    pairs += [("outlier", f"{one['name']}: {one['reason']}") for one in results.get("outliers", [])]
    pairs += usage(file, results).items()
    report = f"{_prep(folder)} report train {quoted(folder.name)}"
    pairs += [("next", f"samples, curves and settings on one page: {report}")]
    return tuple(_labeled(pairs))


def read_results(summary: Path) -> dict[str, Any]:
    """The contents of a run.json; empty if it cannot be read, or is of another layout."""
    try:
        results = json.loads(summary.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return results if isinstance(results, dict) and "train" in results else {}


def result_file(folder: Path, results: dict[str, Any]) -> Path:
    """The file that a run is for: the one to copy, or the folder where there is no single file."""
    names: list[str] = results.get("files") or [f"{results['train']['output']}{_SUFFIX}"]
    return folder / next((name for name in names if name.endswith(_SUFFIX)), names[0])


def usage(file: Path, results: dict[str, Any]) -> dict[str, str]:
    """How to use a run's file, by program; empty where that is not known."""
    found = results.get("use")
    if not found or file.suffix != _SUFFIX:
        return {}
    trained = TrainedFile(file.stem, found["token"], found["prompt"], found["kohya_names"])
    return METHODS[results["train"]["method"]].usage(trained)


def epoch_files(folder: Path) -> list[str]:
    """The names of the files of epochs and steps, to choose from by eye, in the order of training."""
    try:
        files = json.loads((folder / "exports.json").read_text("utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        return []
    return [name for step in sorted(files, key=int) for name in files[step] if (folder / name).is_file()]


def file_bytes(file: Path) -> int:
    """The size of a file; of a folder that of all its files."""
    files = [file] if file.is_file() else file.rglob("*")
    return sum(path.stat().st_size for path in files if path.is_file())


def _labeled(pairs: list[tuple[str, str]]) -> Iterator[str]:
    """Lines with their labels in a column, each label once."""
    last = ""
    for label, text in pairs:
        yield f"{'' if label == last else label:<8} {text}"
        last = label


def _prep(folder: Path) -> str:
    """How prep is called so that a command works when it is pasted: with -C outside the workspace."""
    root = folder.parent.parent
    return "prep" if Path.cwd().is_relative_to(root) else f"prep -C {quoted(_path(root))}"


def _path(file: Path) -> Path:
    """A path that works where prep was called: relative to that folder if it is below it."""
    here = Path.cwd()
    return file.relative_to(here) if file.is_relative_to(here) else file


def _size(file: Path) -> str:
    """'37.9 MB'."""
    size = file_bytes(file)
    factor, unit = next((pair for pair in _UNITS if size >= pair[0]), _UNITS[-1])
    return f"{size / factor:.1f} {unit}"


def _loss(results: dict[str, Any]) -> Iterator[str]:
    if loss := results.get("loss"):
        steps = counted(loss["steps"], "step")
        yield f"{loss['last']:.4f} over the last {steps}, {loss['first']:.4f} over the first"


def _verdicts(results: dict[str, Any], prep: str) -> Iterator[str]:
    """A line for each of the latest checkpoints and the best one, and which of them was exported."""
    judged = [one for one in results.get("validation", []) if "verdict" in one]
    if not judged:
        yield f"none: no image is held out ({prep} build --validation-share 0.1)"
        return
    for one in judged:
        if one["best"] or one in judged[-_LATEST:]:
            yield f"step {one['step']:,}: {one['verdict']}; {one['reason']}"
    best = next((one for one in judged if one["best"]), None)
    if best and best is not judged[-1]:
        step = f"step {best['step']:,}"
        last = results["train"]["keep_weights"] == "last"
        yield (
            f"the file has the weights of the last step; for those of {step}: {prep} train --keep-weights best"
            if last
            else f"the file has the weights of {step}; for those of the last step: {prep} train --keep-weights last"
        )
