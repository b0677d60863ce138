"""The loggers of runs, by the option of prep train that asks for each: a further one is a module and a line here."""

from __future__ import annotations

from training.evaluation.run_logger import Logger
from training.evaluation.tensorboard import TensorBoardWriter, require_tensorboard
from training.evaluation.wandb import WandbWriter, require_wandb
from training.options.validation import ValidationOptions

LOGGERS = {
    "tensorboard": Logger(require_tensorboard, TensorBoardWriter, uploads=False),
    "wandb": Logger(require_wandb, WandbWriter, uploads=True),
}


def chosen_loggers(options: ValidationOptions) -> list[Logger]:
    """The loggers that the options ask for."""
    return [logger for name, logger in LOGGERS.items() if getattr(options, name)]


def check_loggers(options: ValidationOptions) -> None:
    """PrepError when a logger that the options ask for cannot be used."""
    for logger in chosen_loggers(options):
        logger.check()
