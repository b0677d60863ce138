"""Training teaches: a subject that the base has never seen, by prep's own commands, judged by what can be seen.

One short arm of benchmarks/experiments.py with one seed; the bounds lie outside of what two seeds came to.
"""

from __future__ import annotations

import pytest

from benchmarks import experiments
from benchmarks.experiments import Arm, learned
from sample_data.mini.judge import PAINTER

LEARNED = {"method": "locon", "steps": 200, "batch": 4, "learning_rate": 2e-3, "sample_steps": 12}
SHORT = Arm("short", pictures=12, tables=learned(**LEARNED))


@pytest.mark.slow
@pytest.mark.skipif(not (PAINTER / "model_index.json").is_file(), reason="no mini-diffusion in this copy")
def test_an_adapter_binds_its_subject_and_leaves_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "EACH", 8)
    found = experiments.run(SHORT, 0, tmp_path)
    assert found.base.bound < 0.55, found
    assert found.trained.bound > found.base.bound + 0.12, found
    assert found.trained.follow > 0.7 * found.base.follow, found
