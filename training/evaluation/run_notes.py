"""What a finished run tells a person: the verdict on its checkpoints, and the images that stand out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_MOST = 8  # checkpoints that are told of; run.json has all


def run_notes(summary: Path) -> tuple[str, ...]:
    """The notes on a run, from its run.json; none where there is none."""
    try:
        found = json.loads(summary.read_text("utf-8"))
    except (OSError, ValueError):
        return ()
    return (*_verdicts(found), *(f"outlier: {one['name']}: {one['reason']}" for one in found.get("outliers", [])))


def _verdicts(found: dict[str, Any]) -> list[str]:
    """A line for each of the latest checkpoints and the best; and which the file holds, where they differ."""
    judged = [one for one in found.get("validation", []) if "verdict" in one]
    shown = [one for one in judged if one["best"] or one in judged[-_MOST:]]
    lines = [f"step {one['step']:,}: {one['verdict']}; {one['reason']}" for one in shown]
    best = next((one for one in judged if one["best"]), None)
    if best and best is not judged[-1]:
        step = f"step {best['step']:,}"
        last = found["train"]["keep_weights"] == "last"
        lines.append(
            f"the file holds the last step; for {step}: prep train --keep-weights best"
            if last
            else f"the file holds {step}; for the last step: prep train --keep-weights last"
        )
    return lines
