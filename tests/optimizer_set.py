"""The optimizers' names, and the packages that some of them need."""

from __future__ import annotations

from training.optim.optimizers import OPTIMIZERS

NAMES = sorted(OPTIMIZERS)
PACKAGES = {
    "adamw8bit": "bitsandbytes",
    "sgd-nesterov8bit": "bitsandbytes",
    "lion": "lion_pytorch",
    "dadaptation": "dadaptation",
    "prodigy": "prodigyopt",
}
