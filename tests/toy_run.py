"""Trains the toy in its own process, for tests that kill it: python -m tests.toy_run FOLDER STEPS SECONDS."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

from pipeline.errors import PrepError
from tests.toy_job import job
from tests.training_set import sample
from training.checkpoints.run_state import RunPaths, resume_or_start, run_to_end
from training.distributed import init_distributed

SAMPLES = [sample(1), sample(2, width=128), sample(3, reg=True, subject="", caption="man"), sample(4)]


def main(folder: Path, steps: int, seconds: float) -> None:
    """Train the toy with `seconds` of sleep in each step, and print the number of each step that is done."""
    made = job(SAMPLES, batch_size=3, steps=steps, gradient_accumulation_steps=2, ema_decay=0.9, save_every_steps=5)
    ranks = init_distributed("cpu")
    course = resume_or_start(made, RunPaths(folder, "key of the run"), ranks)

    def slow(step):
        if ranks.is_main_process:
            print(step.number, flush=True)
        time.sleep(seconds)
        return False

    run_to_end(made, course, lambda done, total: None, (slow,))
    course.log.finish(folder)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
    except PrepError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
