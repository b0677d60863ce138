"""Keeps what another run has left in the folder of a run that begins, and says why that run cannot be continued."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.history import HistoryStep, Model
from pipeline.history_differences import history_differences
from pipeline.manifest import Manifest, read_if_valid
from pipeline.plural import counted
from training.checkpoints.run_folder import DATASET, SETTINGS, RunFolder, kept_folders, next_folder, write_settings
from training.export.publish import MAIN
from training.run_key import LENGTH, resumable_part

log = logging.getLogger(__name__)

_REASONS = 4  # named at most
_COMPARED = 100_000  # the most images that are compared one by one


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run that is about to begin or to be resumed."""

    key: str
    step: HistoryStep  # everything that decides its result
    steps: int  # to train in all
    manifest: Manifest
    restart: bool  # asked for: not resumed, whatever there is


def claim_folder(folder: Path, run: NewRun) -> None:
    """Make the folder the run's. What another run left there becomes NAME-1, NAME-2, ...

    Kept are its results and, unless it is finished, the states that it can be resumed from. A run that was kept earlier
    and is asked for again gets its name back.
    """
    former = RunFolder(folder)
    if reasons := list(reasons_to_begin_again(former, run)):
        _put_aside(former, f"runs/{folder.name} starts at step 1, because {_listed(reasons)}.")
        same = None if run.restart else next((kept for kept in kept_folders(folder) if _continues(kept, run)), None)
        if same and not folder.exists():
            same.path.rename(folder)
            log.warning("runs/%s is the run with these settings: it is runs/%s again.", same.name, folder.name)
    if not is_finished(folder, run):
        _keep_shorter_result(RunFolder(folder), run)
        write_settings(folder, run.key, run.step, run.manifest)


def is_finished(folder: Path, run: NewRun) -> bool:
    """Whether the folder has the result of just this run."""
    found = RunFolder(folder)
    return bool(not run.restart and found.result and found.key and found.step and found.step.key == run.step.key)


def reasons_to_begin_again(former: RunFolder, run: NewRun) -> Iterator[str]:
    """Why the run cannot continue what is in its folder; none where it can, or where nothing is there."""
    if not former.path.is_dir():
        return
    if run.restart:
        yield "a restart was asked for"
    elif not former.is_of(run.key):
        yield from _differences(former, run) if former.step else ["files of another run are there"]
    elif former.last_step > run.steps:
        yield f"{former.last_step:,} steps are trained and {run.steps:,} are asked for"
    elif former.result and not former.resumes(run.key) and not is_finished(former.path, run):
        yield "the states that it could be resumed from were deleted"


def _continues(kept: RunFolder, run: NewRun) -> bool:
    """Whether a kept run is the one that is asked for, finished or as far as it came."""
    return is_finished(kept.path, run) or (
        kept.key == run.key and kept.resumes(run.key) and kept.last_step <= run.steps
    )


def _put_aside(former: RunFolder, why: str) -> None:
    """Rename the folder of a former run; one without anything to keep only loses its leftovers."""
    if not (former.result or former.exports or former.last_step):
        shutil.rmtree(former.checkpoints, ignore_errors=True)
        for name in (SETTINGS, DATASET):
            (former.path / name).unlink(missing_ok=True)
        return
    finished, step = bool(former.result), former.last_step
    kept = RunFolder(former.path.rename(next_folder(former.path)))
    if finished:
        shutil.rmtree(kept.checkpoints, ignore_errors=True)
        log.warning("%s The former result is kept as runs/%s, without the states to resume it from.", why, kept.name)
    else:
        log.warning("%s The former run, which had come to step %d, is kept as runs/%s.", why, step, kept.name)


def _keep_shorter_result(found: RunFolder, run: NewRun) -> None:
    """Give the result of a run that becomes longer the name of a checkpoint's file, NAME-step00000150."""
    metadata = found.summary.get("metadata")
    step = str(metadata.get("ss_steps")) if isinstance(metadata, dict) else ""
    if not found.result or found.last_step >= run.steps or not step.isdecimal():
        return
    for file in found.result:
        stem = file.name.removesuffix(MAIN)
        target = file.with_name(f"{stem}-step{int(step):08d}{file.name.removeprefix(stem)}")
        if not target.exists():
            file.rename(target)
            log.warning("The result so far is kept as %s.", f"runs/{found.name}/{target.name}")


def _differences(former: RunFolder, run: NewRun) -> Iterator[str]:
    """What makes the run another one than the former."""
    assert former.step
    before, now = resumable_part(former.step), resumable_part(run.step)
    # The length counts where the schedules of both depend on it.
    names = (before.params.keys() | now.params.keys()) - {name for name in LENGTH if name not in before.params}
    names -= {name for name in LENGTH if name not in now.params}
    if not former.key:  # a run of an earlier version of prep, of which less is known
        names &= before.params.keys() & now.params.keys()
        before = replace(before, version=now.version)
    old, new = (replace(step, params=_only(step.params, names), models=()) for step in (before, now))
    schedule = now.params.get("lr_scheduler")
    for difference in history_differences(old, new, ("masks", "init_from")):
        depends = difference.partition(" ")[0] in LENGTH and before.params.get("lr_scheduler") == schedule
        yield f"{difference} (the {schedule} schedule depends on it)" if depends else difference
    yield from _model_differences(before.models, now.models)
    if before.input != now.input:
        yield from dataset_differences(former.dataset, run.manifest)


def _model_differences(before: tuple[Model, ...], now: tuple[Model, ...]) -> Iterator[str]:
    if [model.sha256 for model in before[:1]] != [model.sha256 for model in now[:1]]:
        old, new = (models[0].name if models else "another" for models in (before, now))
        yield f"the base model was {old}, is now {new}" if old != new else f"the weights of {new} changed"
    elif [model.sha256 for model in before[1:]] != [model.sha256 for model in now[1:]]:
        yield "the VAE changed"


def dataset_differences(before: Path, now: Manifest) -> Iterator[str]:
    """How many images and captions of two datasets differ; `before` is the manifest of the former, if it was kept."""
    former = read_if_valid(before)
    if former is None or max(former.counts.images, now.counts.images) > _COMPARED:
        yield "the dataset changed"
        return
    old, new = _images(former), _images(now)
    both = old.keys() & new.keys()
    counts = {
        ("image", "new"): len(new.keys() - old.keys()),
        ("image", "gone"): len(old.keys() - new.keys()),
        ("image", "changed"): sum(old[id].pixels != new[id].pixels for id in both),
        ("caption", "changed"): sum(old[id].caption != new[id].caption for id in both),
        ("image", "in another folder"): sum(old[id].folder != new[id].folder for id in both),
    }
    for (noun, what), count in counts.items():
        if count:
            verb = "" if what == "changed" else "is " if count == 1 else "are "
            yield f"{counted(count, noun)} {verb}{what}"
    if not any(counts.values()):
        yield "the dataset was made with other options"


@dataclass(frozen=True, slots=True)
class _PlacedImage:
    """What training reads of an image of the dataset."""

    pixels: str
    caption: str
    folder: str


def _images(manifest: Manifest) -> dict[str, _PlacedImage]:
    """The images of a dataset by id."""
    return {
        record.id: _PlacedImage(
            record.image.pixel_sha256 if record.image else "", record.caption, record.dataset_path.rpartition("/")[0]
        )
        for record in manifest.records()
        if record.kept and record.dataset_path
    }


def _only(params: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name in names}


def _listed(reasons: list[str]) -> str:
    """The first reasons, and how many more there are."""
    more = len(reasons) - _REASONS
    return "; ".join(reasons[:_REASONS]) + (f"; and {counted(more, 'more setting')} differ" if more > 0 else "")
