"""Findings of rules: how bad each is, which images it concerns, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")  # worst first
NAMED = 20  # images that a finding names; the others are only counted


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong, with all the images it concerns."""

    severity: Severity
    rule: str
    message: str
    count: int  # images it concerns; 0: the dataset as a whole
    images: tuple[str, ...]  # names of the first of them, NAMED at most; an image and its copies share one
    hint: str


@dataclass(frozen=True, slots=True)
class RawFinding:
    """What a rule reports about some rows of a manifest; equal ones with different rows become one Finding."""

    severity: Severity
    rule: str
    message: str
    hint: str
    rows: np.ndarray | None = None  # the images' rows; None: the dataset as a whole


@dataclass(slots=True)
class FindingCollector:
    """Counts findings while a manifest is read; keeps the first rows of each alone."""

    counts: dict[RawFinding, int] = field(default_factory=dict)
    first: dict[RawFinding, list[int]] = field(default_factory=dict)

    def add(self, findings: Iterable[RawFinding]) -> None:
        """Count findings; those with an empty array of rows are none."""
        for finding in findings:
            key = RawFinding(finding.severity, finding.rule, finding.message, finding.hint)
            if finding.rows is None or len(finding.rows):
                rows = () if finding.rows is None else finding.rows
                self.counts[key] = self.counts.get(key, 0) + len(rows)
                named = self.first.setdefault(key, [])
                named += map(int, rows[: NAMED - len(named)])

    def findings(self, name: Callable[[list[int]], list[str]]) -> list[Finding]:
        """Findings, worst first, else in the order added; `name` gives the names of images by ascending rows."""
        wanted = sorted({row for rows in self.first.values() for row in rows})
        names = dict(zip(wanted, name(wanted), strict=True))
        found = [
            Finding(raw.severity, raw.rule, raw.message, count, _once(names[row] for row in self.first[raw]), raw.hint)
            for raw, count in self.counts.items()
        ]
        return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def _once(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once: copies of an image have its name."""
    return tuple(dict.fromkeys(names))


def exit_code(findings: Iterable[Finding], strict: bool = False) -> int:
    """1 when there is an error, or with `strict` a warning; else 0."""
    failing = SEVERITIES[: 2 if strict else 1]
    return int(any(finding.severity in failing for finding in findings))
