"""A run from its pictures to its file: everything that prep train does with the models loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.assembly import Plan, Run, assemble, find_device
from training.bases.base import find_base, with_vae
from training.bases.checkpoint import open_base
from training.families.table import recognise
from training.runs.course import Place, begin, follow
from training.runs.publish import publish
from training.sets.held import Held, hold_out
from training.sets.samples import check_samples, read_all
from training.steps.batch_size import with_batch
from training.steps.ranks import find_ranks
from training.watch.board import need_tensorboard
from training.watch.meter import Meter
from training.watch.observers import Observers, observe

if TYPE_CHECKING:
    from pipeline.manifest import Manifest
    from pipeline.stage import Report
    from pipeline.workspace import Workspace
    from training.train import Train


def pictures(config: Train, manifest: Manifest) -> Held:
    """The pictures that a run trains on, and those that it validates with."""
    samples = [sample for sample in read_all(manifest) if config.prior_loss_weight or not sample.reg]
    return hold_out(samples, config, config.seed)


def conduct(config: Train, manifest: Manifest, workspace: Workspace, report: Report, meter: Meter) -> Observers:
    """Train from the newest checkpoint to the end and publish; all that looked on.

    A run that the meter ends is left as it is, as if it had been stopped.
    """
    if config.tensorboard:
        need_tensorboard()
    checkpoint = open_base(with_vae(find_base(config.base, workspace), config.vae, workspace), workspace.cache)
    family = recognise(checkpoint)
    family.objective(checkpoint, config)  # refuses options that the base cannot be trained with
    family.check_text(config.text)
    config.check_rates(family)
    held = pictures(config, manifest)
    check_samples([*held.train, *held.validation], family.multiple)
    paintings = config.paintings(held.train, family, (workspace, config.seed))
    ranks = find_ranks(find_device(config.device).type)
    with ranks.in_turn(), meter.span("prepare"):  # the first process fills the caches
        run = assemble(Plan(config, family, checkpoint, held.train, held.validation), workspace, report)
    folder = config.file(workspace).parent
    run = with_batch(run, ranks, folder / "batch.json", config.key(manifest, workspace))
    config = run.plan.config
    place = Place(folder, config.key(manifest, workspace))
    course = begin(run.job, place, ranks)
    watch = observe(run, course, place, (paintings, workspace))
    with meter.span("base"):
        watch.begin()
    if watch.validator.over:  # patience had ended it before it was stopped
        last = None
    else:
        last = follow(
            run.job, course, meter.reporting(report), meter.watchers(watch.watchers()), lambda: watch.validator.best
        )
    if meter.until:
        return watch
    done = (last.number, last.epoch) if last else (course.done, course.epoch)
    with meter.span("publish"):
        _publish(run, watch, _result(config, watch, done), manifest, workspace)
    return watch


def _result(config: Train, watch: Observers, done: tuple[int, int]) -> tuple[int, int]:
    """Bring the learner to the weights that shall become the file; their step and epoch."""
    best = watch.validator.best
    if config.result != "best" or best is None or best == done[0]:
        return done
    return best, watch.course.shelf.take(best).about["epoch"]


def _publish(run: Run, watch: Observers, done: tuple[int, int], manifest: Manifest, workspace: Workspace) -> None:
    """Write all that a finished run leaves in its folder; only the first of several processes does."""
    config, course = run.plan.config, watch.course
    course.ledger.finish(watch.folder)
    if course.learner.ranks.first:
        with course.learner.averaged():
            publish(run, done, manifest, config.file(workspace), watch.finish())
