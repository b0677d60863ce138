"""Training teaches: a subject that the base has never seen, by prep's own commands, judged by what can be seen.

The arm that benchmarks/world.py compares all others with, with one seed and half the samples; the bounds lie well
outside of what it came to with any seed there (README, "A small world to see it in").
"""

from __future__ import annotations

import pytest

from benchmarks import experiments
from benchmarks.training_variants import SHORTENED
from sample_data.mini.scoring import DIFFUSION


@pytest.mark.slow
@pytest.mark.skipif(not (DIFFUSION / "model_index.json").is_file(), reason="no mini-diffusion in this copy")
def test_an_adapter_binds_its_subject_and_leaves_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "PER_KIND", 8)
    found = experiments.run_variant(SHORTENED, 0, tmp_path)
    assert found.base_scores.subject_fidelity <= 0.4, found
    assert found.scores.subject_fidelity >= 0.6, found
    assert found.scores.prompt_adherence >= 0.75 * found.base_scores.prompt_adherence, found
    assert found.scores.class_leakage <= 0.75, found
