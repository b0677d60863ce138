"""Logs a run to Weights & Biases; a resumed run continues its W&B run.

Project and name are those of the workspace's and the run's folder, unless the variables WANDB_PROJECT and WANDB_NAME
give others; WANDB_MODE=offline keeps everything in the run's folder. Documentation: https://docs.wandb.ai
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import PrepError
from pipeline.tag_text import escape_control
from pipeline.workspace import write_atomic
from training.evaluation.run_logger import LoggedImage, LoggedRun

log = logging.getLogger(__name__)

RUN_ID = Path("wandb", "run_id")  # in the run's folder: the W&B run that a resumed run continues
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NO_PROJECT = re.compile(r"[/\\#?%:]")  # characters that W&B refuses in the name of a project
_LONGEST = 128  # characters of such a name
_LOG_IN = "Log in once: wandb login    or keep the log on this machine: set the environment variable WANDB_MODE=offline"


def require_wandb() -> None:
    """PrepError when wandb is not installed, or when it would upload and nobody has logged in. Never asks."""
    if importlib.util.find_spec("wandb") is None:
        raise PrepError(
            "train: --wandb needs the package wandb, which is not installed.",
            "Install it: pip install 'prep-diffusion[wandb]'. loss_curves.png does not need it.",
        )
    wandb = _silent_wandb()
    try:
        if wandb.setup().settings.mode in ("online", "shared"):
            wandb.login()
    except wandb.errors.Error as error:
        raise _failed(error) from None


class WandbWriter:
    """See LogWriter."""

    def __init__(self, run: LoggedRun, done: int) -> None:
        """Begin a W&B run or, where steps are done already, continue the one that they were logged to."""
        self.wandb = _silent_wandb()
        known = _known_id(run.folder) if done else None
        (run.folder / RUN_ID).parent.mkdir(parents=True, exist_ok=True)
        try:
            self.run: Any = self.wandb.init(
                project=os.environ.get("WANDB_PROJECT") or _project_name(run.project),
                name=os.environ.get("WANDB_NAME") or run.folder.name,
                dir=str(run.folder),
                config=run.params,
                id=known,
                resume="allow" if known else None,
                allow_val_change=True,  # options that a resumed run may change, such as --save-every-epochs
            )
        except self.wandb.errors.Error as error:
            raise _failed(error) from None
        write_atomic(run.folder / RUN_ID, str(self.run.id).encode())
        # W&B's own step only grows, but losses are read some steps late, and steps after a checkpoint may come twice.
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")
        if self.run.url:
            log.warning("Weights & Biases: %s", self.run.url)
        elif self.run.offline:
            folder = Path(self.run.dir).parent
            log.warning("Weights & Biases is offline. Upload the log later: wandb sync %s", shlex.quote(str(folder)))

    def write_scalars(self, step: int, scalars: dict[str, float]) -> None:
        self.run.log({"step": step, **scalars})

    def write_images(self, step: int, images: Sequence[LoggedImage]) -> None:
        shown = {f"sample/{one.number:02d}": self.wandb.Image(str(one.file), caption=one.prompt) for one in images}
        self.run.log({"step": step, **shown})

    def close(self, failed: bool) -> None:
        self.run.finish(exit_code=1 if failed else 0)


def _silent_wandb() -> Any:
    """The module, which from now on prints nothing, asks nothing, and leaves standard output and error alone."""
    import wandb

    wandb.setup(settings=wandb.Settings(silent=True, console="off"))
    return wandb


def _known_id(folder: Path) -> str | None:
    try:
        text = (folder / RUN_ID).read_text("utf-8").strip()
    except (OSError, ValueError):
        return None
    return text if _ID.fullmatch(text) else None


def _project_name(folder: str) -> str:
    return _NO_PROJECT.sub("-", folder)[:_LONGEST] or "prep"


def _failed(error: Exception) -> PrepError:
    said = " ".join(escape_control(str(error)).split())
    return PrepError(f"train: --wandb: Weights & Biases cannot be used: {said.rstrip('.')}.", _LOG_IN)
