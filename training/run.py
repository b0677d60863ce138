"""Runs prep train: from the dataset to the exported file."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pipeline.progress import phase
from training.batch import RunConfig
from training.callbacks import Callbacks, build_callbacks
from training.checkpoints.checkpoint_callback import RetentionPolicy
from training.checkpoints.former_run import NewRun, claim_folder, is_finished
from training.checkpoints.run_folder import RunFolder
from training.checkpoints.run_state import RunPaths, TrainingProgress, resume_or_start, run_to_end
from training.data.captions import text_settings
from training.data.dataset import check_samples, oversize_remark, read_all
from training.data.validation_split import ValidationSplit, split_validation
from training.distributed import init_distributed
from training.evaluation.loggers import check_loggers
from training.evaluation.step_timer import StepTimer
from training.export.intermediate import IntermediateExports
from training.export.publish import publish
from training.models.base_model import find_base, with_vae
from training.models.clip_text import check_depth
from training.models.families import detect_family
from training.models.loader import open_base_model
from training.models.validate import native_resolution
from training.optim.learning_rates import check_learning_rates
from training.optim.optimizers import OPTIMIZERS
from training.performance.batch_size import with_batch_size
from training.performance.hardware import find_device
from training.performance.threads import suitable_threads
from training.run_key import resumable_part, run_key, run_step
from training.sampling.prompts import sample_requests
from training.setup import build_job
from training.trainer import count_steps

if TYPE_CHECKING:
    from pipeline.manifest import Manifest
    from pipeline.stage import ProgressFn
    from pipeline.workspace import Workspace
    from training.options.train_options import TrainOptions
    from training.sampling.settings import ImageSettings

log = logging.getLogger(__name__)


def split_dataset(config: TrainOptions, manifest: Manifest) -> ValidationSplit:
    """The images of a run, split into those that it trains on and those that are held out."""
    samples = [sample for sample in read_all(manifest) if config.dataset.prior_loss_weight or not sample.reg]
    return split_validation(samples, config.validation, config.optimizer.seed)


def run_training(
    config: TrainOptions, manifest: Manifest, workspace: Workspace, report: ProgressFn, timer: StepTimer
) -> Callbacks | None:
    """Train from the latest checkpoint to the end and export; returns the callbacks, which know the results.

    None when this run was kept as finished, so that nothing was left to do. A run that `timer` stops is not exported,
    as if it had been interrupted.
    """
    ranks = init_distributed(find_device(config.model.device).type)
    phase(report, "loading")(0, 0)
    with ranks.main_process_first(), timer.span("prepare"):  # the main process checks everything and fills the caches
        plan, requests = _check_run(config, manifest, workspace)
        run = build_job(plan, workspace, report)
    key = run_key(config, manifest, workspace)
    run = with_batch_size(run, ranks, workspace.cache / "batch_sizes" / f"{key[:16]}.json", key)
    step = run_step(run.plan.config, manifest, workspace)
    paths = RunPaths(config.folder(workspace), resumable_part(step).key)
    if not timer.synchronize:  # a dry run writes over the one before it
        steps = count_steps(run.plan.config, run.plan.samples)
        new = NewRun(paths.key, step, steps, manifest, config.saving.restart)
        with ranks.main_process_first():
            if ranks.is_main_process:
                claim_folder(paths.folder, new)
        if is_finished(paths.folder, new) and not RunFolder(paths.folder).resumes(paths.key):
            return None
    state = resume_or_start(run.job, paths, ranks)
    if state.progress.step and not timer.synchronize:  # a dry run resumes itself
        log.warning("Resuming from the checkpoint of step %d; --restart starts again.", state.progress.step)
    with suitable_threads(run.job):
        callbacks = build_callbacks(run, state, paths, requests, workspace)
        with callbacks.logger.closed_at_end():
            _train_and_publish(callbacks, IntermediateExports(run, state.train_state, paths, manifest), report, timer)
    return callbacks


def _train_and_publish(
    callbacks: Callbacks, exports: IntermediateExports, report: ProgressFn, timer: StepTimer
) -> None:
    """Train to the end and, unless `timer` stops the run before it, write its files."""
    run, state, last = callbacks.run, callbacks.state, None
    with timer.span("base"):
        callbacks.on_train_begin()
    if not callbacks.validator.should_stop:  # True after a run that --patience had ended was interrupted
        policy = RetentionPolicy(lambda: callbacks.validator.best_step, exports)
        step_callbacks = timer.wrap_callbacks(callbacks.step_callbacks())
        last = run_to_end(run.job, state, timer.wrap_progress(report), step_callbacks, policy)
    if not timer.stop_at:
        progress = TrainingProgress(last.number, last.epoch) if last else state.progress
        with timer.span("publish"):
            if state.train_state.distributed.is_main_process:
                exports.verify()
            _publish(callbacks, progress, exports.manifest)


def _check_run(config: TrainOptions, manifest: Manifest, workspace: Workspace) -> tuple[RunConfig, list[ImageSettings]]:
    """The inputs of a run and its sample images; PrepError for all that can be wrong before a model is loaded."""
    OPTIMIZERS[config.optimizer.optimizer].check_package()
    check_loggers(config.validation)
    checkpoint = open_base_model(
        with_vae(find_base(config.model.base, workspace), config.model.vae, workspace), workspace.cache
    )
    family = detect_family(checkpoint)
    family.objective(checkpoint, config.objective)  # PrepError for options that the base model cannot be trained with
    family.check_text(text_settings(config.captions))
    for encoder in family.encoders if family.clip_skips else ():
        check_depth(config.captions.clip_skip, checkpoint.config(encoder)["num_hidden_layers"])
    check_learning_rates(config.optimizer, family)
    split = split_dataset(config, manifest)
    check_samples([*split.train, *split.validation], family.multiple)
    side = native_resolution(checkpoint, family)
    if remark := oversize_remark([*split.train, *split.validation], side, checkpoint.name):
        log.warning(remark)
    requests = sample_requests(config.sampling, split.train, workspace, config.optimizer.seed)
    requests = [request.resolve(family, side) for request in requests]
    return RunConfig(config, family, checkpoint, split.train, split.validation), requests


def _select_weights(config: TrainOptions, callbacks: Callbacks, progress: TrainingProgress) -> TrainingProgress:
    """Load the weights to export, the last or the best; the step and epoch that they are of."""
    best = callbacks.validator.best_step
    if config.validation.keep_weights == "last" or best is None or best == progress.step:
        return progress
    return TrainingProgress(best, callbacks.state.manager.load(best).progress["epoch"])


def _publish(callbacks: Callbacks, last: TrainingProgress, manifest: Manifest) -> None:
    """Write the files of a run that ended after `last`; of several processes only the main one does."""
    state, run = callbacks.state, callbacks.run
    progress = _select_weights(run.plan.config, callbacks, last)
    state.log.finish(callbacks.folder)
    if state.train_state.distributed.is_main_process:
        with state.train_state.ema_weights():
            publish(run, progress, manifest, callbacks.folder, {"steps": last.step} | callbacks.finish())
