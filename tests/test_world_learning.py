"""Training works: prep's own commands teach the small base model a subject that it has never seen.

The variant to which benchmarks/world.py compares all others, with one seed and fewer samples; the bounds lie well
outside of its results there (sample_data/README.md).
"""

from __future__ import annotations

import pytest

from benchmarks import experiments
from benchmarks.training_variants import SHORTENED
from sample_data.mini.scoring import DIFFUSION


@pytest.mark.slow
@pytest.mark.skipif(not (DIFFUSION / "model_index.json").is_file(), reason="no mini-diffusion in this copy")
def test_an_adapter_learns_its_subject_and_keeps_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "PER_KIND", 8)
    result = experiments.run_variant(SHORTENED, 0, tmp_path)
    assert result.base_scores.subject_fidelity <= 0.4, result
    assert result.scores.subject_fidelity >= 0.6, result
    assert result.scores.prompt_adherence >= 0.75 * result.base_scores.prompt_adherence, result
    assert result.scores.class_leakage <= 0.75, result
