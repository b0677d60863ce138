"""Contradictions between options of different groups, all found before anything is loaded."""

from __future__ import annotations

from pipeline.errors import PrepError
from training.methods.table import METHODS
from training.optim.optimizers import OPTIMIZERS
from training.options.train_options import TrainOptions


def check_options(config: TrainOptions) -> None:
    """Raise PrepError when options contradict each other, or the method or the optimizer does not read them."""
    method = METHODS[config.method.method]
    values = config.values()
    changed = [option.name for option in config.options() if values[option.name] != option.default]
    read_by_some = frozenset().union(*(method.options for method in METHODS.values()))
    if unread := [name for name in changed if name in read_by_some - method.options]:
        raise PrepError(
            f"train: {', '.join(unread)} has no effect with the method {method.name}.",
            next((method.hints[name] for name in unread if name in method.hints), "Leave it out."),
        )
    if config.method.init_from and (fixed := [name for name in changed if name in method.options_of_file]):
        raise PrepError(
            f"train: {', '.join(fixed)} has no effect: the file given by init_from has its own size.", "Leave it out."
        )
    OPTIMIZERS[config.optimizer.optimizer].check_options(config.optimizer)
    method.check_options(config)
