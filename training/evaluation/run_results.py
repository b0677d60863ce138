"""What run.json says of a finished run besides its options: how its loss changed, and what using its file needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.evaluation.loss_curves import StepMetrics
from training.sampling.default_prompts import prompt_texts

if TYPE_CHECKING:
    from training.batch import RunConfig

_SHARE = 10  # a tenth of the steps at either end is averaged


def loss_change(folder: Path) -> dict[str, float] | None:
    """The mean losses of the first and the last tenth of the steps in metrics.parquet; None without a loss."""
    import numpy as np

    losses = StepMetrics.read(folder / "metrics.parquet").loss
    losses = losses[np.isfinite(losses)]
    count = -(-len(losses) // _SHARE)
    if not count:
        return None
    return {"first": float(losses[:count].mean()), "last": float(losses[-count:].mean()), "steps": count}


def what_using_needs(plan: RunConfig) -> dict[str, Any] | None:
    """The token of the first subject, a prompt that shows it, and whose tensor names the file has; None without one."""
    subjects = sorted({(image.subject, image.class_name) for image in plan.samples if image.subject and not image.reg})
    if not subjects:
        return None
    token, class_name = subjects[0]
    names = plan.config.method.lora_key_format
    kohya = plan.family.kohya if names == "auto" else names == "kohya"
    return {"token": token, "prompt": prompt_texts(token, class_name)[0], "kohya_names": kohya}
