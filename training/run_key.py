"""What identifies a run: its options, the models and files it reads, and its images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.history import HistoryStep, Model
from pipeline.workspace import file_sha256
from training.data.masks import Masks
from training.models.base_model import find_base, with_vae
from training.options.optimizer import OWN_SCHEDULE
from training.options.validation import EVAL_ONLY_OPTIONS

if TYPE_CHECKING:
    from pipeline.manifest import Manifest
    from pipeline.workspace import Workspace
    from training.options.model import ModelOptions
    from training.options.train_options import TrainOptions

LENGTH = ("steps", "epochs")  # the options that say how long a run is
VERSION = 2  # of the stage: raised when the same options give other weights


def models_of(options: ModelOptions, workspace: Workspace) -> tuple[Model, ...]:
    """The base model, and the VAE where it is another one."""
    base = with_vae(find_base(options.base, workspace), options.vae, workspace)
    own = Model(base.name, base.sha256, base.revision)
    return (own, Model("vae", base.vae)) if options.vae else (own,)


def input_digests(config: TrainOptions, workspace: Workspace) -> dict[str, str]:
    """Digests of the files that a run reads besides its manifest: the masks, and the file of --init-from.

    The transparency of sources is part of what the manifest names.
    """
    digests = {"masks": Masks(config.dataset.masks, workspace, 1).digest()} if config.dataset.masks else {}
    init_file = config.method.init_file(workspace)
    return digests | ({"init_from": file_sha256(init_file)} if init_file else {})


def run_step(config: TrainOptions, manifest: Manifest, workspace: Workspace) -> HistoryStep:
    """Everything that decides the result of a run."""
    params = config.params() | input_digests(config, workspace)
    return HistoryStep(config.name, VERSION, params, manifest.digest, models_of(config.model, workspace))


def resumable_part(step: HistoryStep) -> HistoryStep:
    """What has to be equal for a run to be resumed.

    Where the learning rates do not depend on the length of the run, it may become longer.
    """
    ignored = set(EVAL_ONLY_OPTIONS)
    if step.params.get("lr_scheduler") in ("constant", OWN_SCHEDULE):
        ignored |= set(LENGTH)
    return replace(step, params={name: value for name, value in step.params.items() if name not in ignored})


def run_key(config: TrainOptions, manifest: Manifest, workspace: Workspace) -> str:
    """The key of a run: a checkpoint with the same key can be resumed."""
    return resumable_part(run_step(config, manifest, workspace)).key
