"""What the folder of a run holds: its settings, its dataset, its results, and the states it can be resumed from."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PrepError
from pipeline.history import HistoryStep, Model
from pipeline.manifest import Manifest
from pipeline.workspace import whole_file, write_atomic

SETTINGS, DATASET, SUMMARY = "settings.json", "dataset.parquet", "run.json"
EXPORTS = "exports.json"  # which run's files a folder holds, and of which step each is
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A folder in runs/. Everything is read when it is asked for; what is missing or damaged is empty."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def key(self) -> str:
        """The key of the run; empty where none is recorded."""
        return str(self._read(SETTINGS).get("key", ""))

    @property
    def step(self) -> HistoryStep | None:
        """Everything that decided the run's result. Of a run of an earlier version of prep, only its options."""
        settings, summary = self._read(SETTINGS), self._read(SUMMARY)
        try:
            if settings:
                return HistoryStep.from_json(settings["step"])
            if summary:
                metadata = summary["metadata"]
                base = Model(metadata["ss_sd_model_name"], metadata["ss_new_sd_model_hash"])
                return HistoryStep("train", 0, summary["train"], metadata["prep_dataset"], (base,))
        except (KeyError, TypeError, AttributeError):
            pass
        return None

    @property
    def dataset(self) -> Path:
        """The manifest that the run trains on, as it was when it began."""
        return self.path / DATASET

    @property
    def summary(self) -> dict[str, Any]:
        """The content of run.json: of a finished run."""
        return self._read(SUMMARY)

    @property
    def result(self) -> list[Path]:
        """The files and folders of the finished run; empty when it is not finished or one of them is missing."""
        summary = self.summary
        names = summary.get("files")
        if not isinstance(names, list):  # an earlier version of prep lists none: a file, a folder, or both
            options = summary.get("train")
            output = Path(str(options.get("output")) if isinstance(options, dict) else self.name).name
            names = [name for name in (f"{output}.safetensors", output) if (self.path / name).exists()]
        files = [self.path / Path(str(name)).name for name in names]
        return files if all(file.exists() for file in files) else []

    @property
    def exports(self) -> list[Path]:
        """The files and folders that were exported before the end of the run."""
        listed = self._read(EXPORTS).get("files")
        names = [str(name) for files in listed.values() for name in files] if isinstance(listed, dict) else []
        found = {*(self.path / Path(name).name for name in names), *self.path.glob("[!.]*.safetensors")}
        return sorted({file for file in found if file.exists()} - set(self.result))

    @property
    def checkpoints(self) -> Path:
        """The folder of the states that the run can be resumed from."""
        return self.path / CHECKPOINTS

    @property
    def last_step(self) -> int:
        """The steps that it has trained, as far as a result or a checkpoint shows them."""
        numbers = [int(path.name[5:]) for path in self.checkpoints.glob("*/step-*") if path.name[5:].isdigit()]
        done = self.summary.get("steps", 0) if self.result else 0
        return max([done if isinstance(done, int) else 0, *numbers], default=0)

    def resumes(self, key: str) -> bool:
        """Whether there is a checkpoint of the run with this key."""
        return any((self.checkpoints / key[:16]).glob("step-*"))

    def is_of(self, key: str) -> bool:
        """Whether the folder belongs to the run with this key; earlier versions of prep recorded it in folders only."""
        return self.key == key if self.key else (self.checkpoints / key[:16]).is_dir()

    def _read(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads((self.path / name).read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def write_settings(folder: Path, key: str, step: HistoryStep, manifest: Manifest) -> None:
    """Record what decides the result of a run that begins or is resumed, and keep its manifest."""
    write_atomic(folder / SETTINGS, json.dumps({"key": key, "step": step.to_json()}, indent=1).encode())
    with whole_file(folder / DATASET) as draft:
        shutil.copyfile(manifest.path, draft)


def run_folders(runs: Path) -> list[RunFolder]:
    """The folders of the runs in `runs`, by name, a run before those that were kept of it."""
    folders = [RunFolder(path) for path in runs.iterdir() if path.is_dir()] if runs.is_dir() else []
    return sorted((folder for folder in folders if holds_a_run(folder)), key=lambda folder: _natural(folder.name))


def holds_a_run(folder: RunFolder) -> bool:
    """Whether a folder holds anything of a run: its settings, its result, or a state to resume from."""
    return bool(folder.step or folder.result or folder.last_step)


def kept_folders(folder: Path) -> list[RunFolder]:
    """The former runs that were kept of the run in this folder, NAME-1, NAME-2, ...: the oldest first."""
    numbers = (path.name.removeprefix(f"{folder.name}-") for path in folder.parent.glob(f"{folder.name}-*"))
    known = sorted(int(text) for text in numbers if text.isdecimal() and text == str(int(text)))
    return [RunFolder(folder.with_name(f"{folder.name}-{number}")) for number in known]


def next_folder(folder: Path) -> Path:
    """The folder in which what this one holds is to be kept: one number above those that exist."""
    kept = kept_folders(folder)
    number = int(kept[-1].name.rpartition("-")[2]) + 1 if kept else 1
    return folder.with_name(f"{folder.name}-{number}")


def result_of(folder: Path) -> list[Path]:
    """The files and folders that a finished run has left in its folder; PrepError when it is not finished."""
    if found := RunFolder(folder).result:
        return found
    raise PrepError(f"{folder.name} is not a finished run.", "See which runs there are: prep runs")


def _natural(name: str) -> tuple[str, int]:
    head, separator, number = name.rpartition("-")
    return (head, int(number)) if separator and number.isdecimal() else (name, 0)
