"""What a rule found: how bad it is, which images it concerns, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")  # worst first
NAMED = 20  # images that a finding names at most; the others are counted


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, for all the images it concerns."""

    severity: Severity
    rule: str
    message: str
    count: int  # images it concerns; 0: the set as a whole
    images: tuple[str, ...]  # names of the first of them, NAMED at most; an image and its copies share one
    hint: str


@dataclass(frozen=True, slots=True)
class RawFinding:
    """What a rule says about some rows of a set; hits that say the same become one finding."""

    severity: Severity
    rule: str
    message: str
    hint: str
    rows: np.ndarray | None = None  # where the images stand in the set; None: the set as a whole


@dataclass(slots=True)
class FindingCollector:
    """Counts hits while the set passes by: however many there are, only the first rows are kept."""

    counts: dict[RawFinding, int] = field(default_factory=dict)
    first: dict[RawFinding, list[int]] = field(default_factory=dict)

    def add(self, hits: Iterable[RawFinding]) -> None:
        """Take in hits; those with no row left are none."""
        for hit in hits:
            key = RawFinding(hit.severity, hit.rule, hit.message, hit.hint)
            if hit.rows is None or len(hit.rows):
                rows = () if hit.rows is None else hit.rows
                self.counts[key] = self.counts.get(key, 0) + len(rows)
                named = self.first.setdefault(key, [])
                named += map(int, rows[: NAMED - len(named)])

    def findings(self, name: Callable[[list[int]], list[str]]) -> list[Finding]:
        """Worst first, else in the order in which they came; `name` says what images in ascending rows are called."""
        wanted = sorted({row for rows in self.first.values() for row in rows})
        names = dict(zip(wanted, name(wanted), strict=True))
        found = [
            Finding(hit.severity, hit.rule, hit.message, count, _once(names[row] for row in self.first[hit]), hit.hint)
            for hit, count in self.counts.items()
        ]
        return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def _once(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once: copies of an image are called as it is."""
    return tuple(dict.fromkeys(names))


def exit_code(findings: Iterable[Finding], strict: bool = False) -> int:
    """1 when there is an error, or with `strict` a warning; else 0."""
    bad = SEVERITIES[: 2 if strict else 1]
    return int(any(finding.severity in bad for finding in findings))
