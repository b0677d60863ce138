"""The notes printed after a run: the verdicts on its checkpoints, and its outliers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_LATEST = 8  # checkpoints noted, and the best one; run.json has all


def run_notes(summary: Path) -> tuple[str, ...]:
    """The notes of a run from its run.json; none if it cannot be read."""
    try:
        results = json.loads(summary.read_text("utf-8"))
    except (OSError, ValueError):
        return ()
    return (*_verdicts(results), *(f"outlier: {one['name']}: {one['reason']}" for one in results.get("outliers", [])))


def _verdicts(results: dict[str, Any]) -> list[str]:
    """A line for each of the latest checkpoints and the best one, and which of them was exported."""
    judged = [one for one in results.get("validation", []) if "verdict" in one]
    shown = [one for one in judged if one["best"] or one in judged[-_LATEST:]]
    lines = [f"step {one['step']:,}: {one['verdict']}; {one['reason']}" for one in shown]
    best = next((one for one in judged if one["best"]), None)
    if best and best is not judged[-1]:
        step = f"step {best['step']:,}"
        last = results["train"]["keep_weights"] == "last"
        lines.append(
            f"the file has the weights of the last step; for those of {step}: prep train --keep-weights best"
            if last
            else f"the file has the weights of {step}; for those of the last step: prep train --keep-weights last"
        )
    return lines
