"""Options of saving: names that are files everywhere, and what is no part of the result; a disk that is full."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest

from pipeline.errors import PrepError
from training.checkpoints.checkpoint_callback import CheckpointCallback, RetentionPolicy
from training.options.saving import SavingOptions


@pytest.mark.parametrize("output", ["a/b", "", "..", "a\nb", "a.", "a ", ".a", "x" * 101])
def test_names_that_are_no_files(output):
    with pytest.raises(PrepError, match="cannot be a file name everywhere"):
        SavingOptions(output=output)


def test_when_to_save_changes_no_result():
    assert SavingOptions().params().keys() == {"output", "save_precision"}


def test_at_least_one_checkpoint_is_kept():
    with pytest.raises(PrepError, match="save_total_limit is 0"):
        SavingOptions(save_total_limit=0)


@pytest.mark.parametrize(("steps", "intact"), [([1, 2, 4], "The checkpoint of step 2 is intact"), ([], "starts again")])
@pytest.mark.parametrize("fails", ["save", "flush"])
def test_a_full_disk_is_told_with_the_checkpoint_before(steps, intact, fails):
    """Step 4 stands for what an earlier, longer part of the run left."""
    full = OSError(errno.ENOSPC, "No space left on device")

    def save(*given):
        raise full

    manager = SimpleNamespace(steps=lambda: steps, check_finite=lambda step: None, save=save)
    log = SimpleNamespace(flush=save if fails == "flush" else lambda: None, first_loss=1.0)
    callback = CheckpointCallback(SavingOptions(), manager, log, RetentionPolicy())
    with pytest.raises(PrepError) as caught:
        callback.save(SimpleNamespace(number=3, epoch=1))
    assert caught.value.wrong == "The checkpoint of step 3 cannot be written: No space left on device."
    assert intact in caught.value.hint and "free some space" in caught.value.hint
