"""A run from its images to its file: everything that prep train does with the models loaded."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from training.batch import RunConfig
from training.callbacks import Callbacks, build_callbacks
from training.checkpoints.checkpoint_callback import RetentionPolicy
from training.checkpoints.run_state import RunPaths, TrainingProgress, resume_or_start, run_to_end
from training.data.captions import text_settings
from training.data.dataset import check_samples, read_all
from training.data.validation_split import ValidationSplit, split_validation
from training.distributed import init_distributed
from training.evaluation.step_timer import StepTimer
from training.evaluation.tensorboard import require_tensorboard
from training.export.intermediate import IntermediateExports
from training.export.publish import publish
from training.models.base_model import find_base, with_vae
from training.models.families import detect_family
from training.models.loader import open_base_model
from training.models.validate import native_resolution
from training.optim.learning_rates import check_learning_rates
from training.optim.optimizers import OPTIMIZERS
from training.performance.batch_size import with_batch_size
from training.performance.hardware import find_device
from training.performance.threads import suitable_threads
from training.run_key import run_key
from training.sampling.prompts import sample_requests
from training.setup import TrainingRun, build_job

if TYPE_CHECKING:
    from pipeline.manifest import Manifest
    from pipeline.stage import ProgressFn
    from pipeline.workspace import Workspace
    from training.options.train_options import TrainOptions
    from training.sampling.image_generator import SampleRequest

log = logging.getLogger(__name__)


def split_dataset(config: TrainOptions, manifest: Manifest) -> ValidationSplit:
    """The images that a run trains on, and those that it validates with."""
    samples = [sample for sample in read_all(manifest) if config.dataset.prior_loss_weight or not sample.reg]
    return split_validation(samples, config.validation, config.optimizer.seed)


def run_training(
    config: TrainOptions, manifest: Manifest, workspace: Workspace, report: ProgressFn, meter: StepTimer
) -> Callbacks:
    """Train from the newest checkpoint to the end and publish; all that looked on.

    A run that the meter ends is left as it is, as if it had been stopped.
    """
    ranks = init_distributed(find_device(config.model.device).type)
    with (
        ranks.main_process_first(),
        meter.span("prepare"),
    ):  # the first process finds what is wrong, and fills the caches
        plan, requests = _planned(config, manifest, workspace)
        run = build_job(plan, workspace, report)
    folder = config.file(workspace).parent
    run = with_batch_size(run, ranks, folder / "batch_size.json", run_key(config, manifest, workspace))
    config = run.plan.config
    place = RunPaths(folder, run_key(config, manifest, workspace))
    course = resume_or_start(run.job, place, ranks)
    if course.progress.step and not meter.synchronize:  # a trial stops and goes on by itself
        log.warning("Resuming from the checkpoint of step %d; --restart starts again.", course.progress.step)
    with suitable_threads(run.job):
        watch = build_callbacks(run, course, place, requests, workspace)
        with meter.span("base"):
            watch.on_train_begin()
        last, copies = None, IntermediateExports(run, course.train_state, place, manifest)
        if not watch.validator.should_stop:  # else patience had ended it before it was stopped
            wish = RetentionPolicy(lambda: watch.validator.best_step, copies)
            callbacks = meter.wrap_callbacks(watch.step_callbacks())
            last = run_to_end(run.job, course, meter.wrap_progress(report), callbacks, wish)
        if not meter.stop_at:
            progress = TrainingProgress(last.number, last.epoch) if last else course.progress
            with meter.span("publish"):
                if course.train_state.distributed.is_main_process:
                    copies.verify()
                _publish(run, watch, _select_weights(config, watch, progress), manifest, workspace)
    return watch


def _planned(config: TrainOptions, manifest: Manifest, workspace: Workspace) -> tuple[RunConfig, list[SampleRequest]]:
    """What a run is made of, and its sample images; PrepError for all that is wrong before a model is loaded."""
    OPTIMIZERS[config.optimizer.optimizer].check_package()
    if config.validation.tensorboard:
        require_tensorboard()
    checkpoint = open_base_model(
        with_vae(find_base(config.model.base, workspace), config.model.vae, workspace), workspace.cache
    )
    family = detect_family(checkpoint)
    family.objective(checkpoint, config.objective)  # refuses options that the base cannot be trained with
    family.check_text(text_settings(config.captions))
    check_learning_rates(config.optimizer, family)
    held = split_dataset(config, manifest)
    check_samples([*held.train, *held.validation], family.multiple)
    side = native_resolution(checkpoint, family)
    requests = sample_requests(config.sampling, held.train, workspace, config.optimizer.seed)
    requests = [request.resolve(family, side) for request in requests]
    return RunConfig(config, family, checkpoint, held.train, held.validation), requests


def _select_weights(config: TrainOptions, callbacks: Callbacks, progress: TrainingProgress) -> TrainingProgress:
    """Load the weights to export, the last or the best; the step and epoch that they are of."""
    best = callbacks.validator.best_step
    if config.validation.keep_weights == "last" or best is None or best == progress.step:
        return progress
    return TrainingProgress(best, callbacks.state.manager.load(best).progress["epoch"])


def _publish(
    run: TrainingRun, callbacks: Callbacks, progress: TrainingProgress, manifest: Manifest, workspace: Workspace
) -> None:
    """Write the files of a finished run; of several processes only the main one does."""
    state = callbacks.state
    state.log.finish(callbacks.folder)
    if state.train_state.distributed.is_main_process:
        with state.train_state.ema_weights():
            publish(run, progress, manifest, run.plan.config.file(workspace), callbacks.finish())
