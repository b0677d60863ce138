"""A run from its pictures to its file: everything that prep train does with the models loaded."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from training.checkpoints.callback import Wish
from training.checkpoints.run_state import Place, begin, follow
from training.data.dataset import check_samples, read_all
from training.data.validation_split import Held, hold_out
from training.distributed import find_ranks
from training.evaluation.callbacks import Observers, observe
from training.evaluation.step_timer import Meter
from training.evaluation.tensorboard import need_tensorboard
from training.export.intermediate import Copies
from training.export.publish import publish
from training.models.base_model import find_base, with_vae
from training.models.families import recognise
from training.models.loader import open_base
from training.models.validate import side_of
from training.optim.optimizers import need_package
from training.performance.batch_size import with_batch
from training.performance.hardware import find_device
from training.performance.threads import suited_threads
from training.setup import Plan, Run, assemble

if TYPE_CHECKING:
    from pipeline.manifest import Manifest
    from pipeline.stage import Report
    from pipeline.workspace import Workspace
    from training.sampling.pipeline import Painting
    from training.train import Train

log = logging.getLogger(__name__)


def pictures(config: Train, manifest: Manifest) -> Held:
    """The pictures that a run trains on, and those that it validates with."""
    samples = [sample for sample in read_all(manifest) if config.prior_loss_weight or not sample.reg]
    return hold_out(samples, config, config.seed)


def conduct(config: Train, manifest: Manifest, workspace: Workspace, report: Report, meter: Meter) -> Observers:
    """Train from the newest checkpoint to the end and publish; all that looked on.

    A run that the meter ends is left as it is, as if it had been stopped.
    """
    ranks = find_ranks(find_device(config.device).type)
    with ranks.in_turn(), meter.span("prepare"):  # the first process finds what is wrong, and fills the caches
        plan, paintings = _planned(config, manifest, workspace)
        run = assemble(plan, workspace, report)
    folder = config.file(workspace).parent
    run = with_batch(run, ranks, folder / "batch.json", config.key(manifest, workspace))
    config = run.plan.config
    place = Place(folder, config.key(manifest, workspace))
    course = begin(run.job, place, ranks)
    if course.done and not meter.settle:  # a trial stops and goes on by itself
        log.warning("Going on from the checkpoint of step %d; --fresh begins anew.", course.done)
    with suited_threads(run.job):
        watch = observe(run, course, place, (paintings, workspace))
        with meter.span("base"):
            watch.begin()
        last, copies = None, Copies(run, course.learner, place, manifest)
        if not watch.validator.over:  # else patience had ended it before it was stopped
            wish = Wish(lambda: watch.validator.best, copies)
            last = follow(run.job, course, meter.reporting(report), meter.watchers(watch.watchers()), wish)
        if not meter.until:
            done = (last.number, last.epoch) if last else (course.done, course.epoch)
            with meter.span("publish"):
                if course.learner.ranks.first:
                    copies.prove()
                _publish(run, watch, _result(config, watch, done), manifest, workspace)
    return watch


def _planned(config: Train, manifest: Manifest, workspace: Workspace) -> tuple[Plan, list[Painting]]:
    """What a run is made of, and what it paints; PrepError for all that is wrong before a model is loaded."""
    need_package(config.optimizer)
    if config.tensorboard:
        need_tensorboard()
    checkpoint = open_base(with_vae(find_base(config.base, workspace), config.vae, workspace), workspace.cache)
    family = recognise(checkpoint)
    family.objective(checkpoint, config)  # refuses options that the base cannot be trained with
    family.check_text(config.text)
    config.check_rates(family)
    held = pictures(config, manifest)
    check_samples([*held.train, *held.validation], family.multiple)
    paintings = config.paintings(held.train, family, (workspace, config.seed), side_of(checkpoint, family))
    return Plan(config, family, checkpoint, held.train, held.validation), paintings


def _result(config: Train, watch: Observers, done: tuple[int, int]) -> tuple[int, int]:
    """Bring the learner to the weights that shall become the file; their step and epoch."""
    best = watch.validator.best
    if config.result == "last" or best is None or best == done[0]:
        return done
    return best, watch.course.shelf.take(best).about["epoch"]


def _publish(run: Run, watch: Observers, done: tuple[int, int], manifest: Manifest, workspace: Workspace) -> None:
    """Write all that a finished run leaves in its folder; only the first of several processes does."""
    config, course = run.plan.config, watch.course
    course.ledger.finish(watch.folder)
    if course.learner.ranks.first:
        with course.learner.averaged():
            publish(run, done, manifest, config.file(workspace), watch.finish())
