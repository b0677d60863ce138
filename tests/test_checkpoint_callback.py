"""Options of saving: names that are files everywhere, and what is no part of the result."""

from __future__ import annotations

import pytest

from pipeline.errors import PrepError
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
