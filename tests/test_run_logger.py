"""What a run gives to its loggers: everything once, also when it is resumed, and the end in any case."""

from __future__ import annotations

import pytest

from training.checkpoints.training_log import StepRow
from training.evaluation.run_logger import LoggedImage, LoggedRun, Logger, RunLogger
from training.evaluation.verdict import Evaluation


class Written:
    """A writer that remembers."""

    def __init__(self):
        self.scalars, self.images, self.failed = [], [], None

    def write_scalars(self, step, scalars):
        self.scalars.append((step, scalars))

    def write_images(self, step, images):
        self.images.append((step, [image.number for image in images]))

    def close(self, failed):
        self.failed = failed


def evaluation(step, loss):
    return Evaluation(step, {"t": loss}, {"v": loss + 1, "w": loss + 3}, {})


@pytest.fixture
def logged(tmp_path):
    """A logger with two writers, and these."""
    writers = [Written(), Written()]
    waiting = iter(writers)
    kind = Logger(lambda: None, lambda run, done: next(waiting), uploads=False)
    return RunLogger([kind, kind], LoggedRun(tmp_path, "project", {})), writers


def image(folder, step, number=1):
    return LoggedImage(step, number, "smith", folder / "01.png")


def test_steps_evaluations_and_images_are_written_once_to_every_logger(logged, tmp_path):
    logger, writers = logged
    evaluations, images = [evaluation(0, 4.0)], [image(tmp_path, 0), image(tmp_path, 0, 2)]
    with logger.closed_at_end():
        logger.on_train_begin(0, evaluations, images)
        logger.log_step(StepRow(1, 1, 0.5, None, 1e-4, 0.25, 64, 64, ("a",)))
        logger.log_results(1, evaluations, images)
        evaluations, images = [*evaluations, evaluation(2, 3.0)], [*images, image(tmp_path, 2)]
        for step in (2, 3):
            logger.log_results(step, evaluations, images)
    for writer in writers:
        assert writer.scalars == [
            (0, {"error/train": 4.0, "error/validation": 6.0}),
            (1, {"loss/train": 0.5, "learning_rate": 1e-4, "grad_norm": 0.25}),
            (2, {"error/train": 3.0, "error/validation": 5.0}),
        ]
        assert writer.images == [(0, [1, 2]), (2, [1])] and writer.failed is False


def test_a_resumed_run_writes_only_what_is_new(logged, tmp_path):
    logger, (writer, _) = logged
    evaluations, images = [evaluation(0, 4.0), evaluation(2, 3.0)], [image(tmp_path, 0), image(tmp_path, 2)]
    logger.on_train_begin(2, evaluations, images)
    assert not writer.scalars and not writer.images
    logger.log_results(4, [*evaluations, evaluation(4, 2.0)], [*images, image(tmp_path, 4)])
    assert [step for step, _ in writer.scalars] == [4] and writer.images == [(4, [1])]


def test_an_interrupted_run_closes_its_logs_as_failed(logged):
    logger, writers = logged
    with pytest.raises(KeyboardInterrupt), logger.closed_at_end():
        logger.on_train_begin(0, [], [])
        raise KeyboardInterrupt
    assert [writer.failed for writer in writers] == [True, True]


def test_a_logger_that_cannot_be_opened_leaves_no_other_open(tmp_path):
    first = Written()

    def refuse(run, done):
        raise OSError("no space")

    kinds = [Logger(lambda: None, lambda run, done: first, False), Logger(lambda: None, refuse, False)]
    logger = RunLogger(kinds, LoggedRun(tmp_path, "project", {}))
    with pytest.raises(OSError, match="no space"), logger.closed_at_end():
        logger.on_train_begin(0, [], [])
    assert first.failed is True
