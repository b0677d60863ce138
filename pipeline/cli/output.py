"""Formats results for printing: aligned lines for people, and the same values as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.cli.outdated import mending, stale_json
from pipeline.manifest import ImageCounts
from pipeline.run import StageResult
from pipeline.staleness import StageStatus, causes
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace


def account(counts: ImageCounts, before: ImageCounts | None = None) -> str:
    """'41 found = 38 kept + 3 dropped (duplicate 1, truncated 2)', and the number of images if it differs.

    Reasons with the same count in `before`, the input's counts, were listed by an earlier stage and are left out.
    """
    dropped = sum(counts.dropped.values())
    known = before.dropped if before else {}
    if counts.found != counts.kept + dropped:
        raise AssertionError(f"unaccounted images: {counts}")
    reasons = ", ".join(f"{why} {count}" for why, count in counts.dropped.items() if known.get(why) != count)
    text = f"{counts.found:,} found = {counts.kept:,} kept + {dropped:,} dropped"
    text += f" ({reasons})" if reasons else ""
    return text + (f", {counts.images:,} images" if counts.images != counts.kept else "")


def result_line(result: StageResult) -> str:
    unchanged = "unchanged" if result.stale else "up to date"
    state = f"{result.seconds:7.1f} s" if result.worked else unchanged
    line = f"{result.name:<9}{state:>10}   {account(result.counts, result.before)}{_other_files(result.others)}"
    notes = [*result.notes]
    if result.stale:
        notes.append(f"What it reads is not up to date: {causes(list(result.stale))}. {mending(list(result.stale))}")
    return "\n".join((line, *(f"  {escape_control(note)}" for note in notes)))


def _other_files(others: dict[str, int]) -> str:
    """'; 4 other files (.txt 3, .json 1)': the files in the source folders that are not images."""
    if not others:
        return ""
    listed = ", ".join(f"{escape_control(suffix)} {count:,}" for suffix, count in others.items())
    count = sum(others.values())
    return f"; {count:,} other file{'s' if count > 1 else ''} ({listed})"


def result_json(result: StageResult, workspace: Workspace) -> dict[str, Any]:
    return {
        "stage": result.name,
        "worked": result.worked,
        "seconds": round(result.seconds, 3),
        "manifest": workspace.relative(result.manifest.path),
        "digest": result.manifest.digest,
        **counts_json(result.counts),
        **({"other_files": result.others} if result.others else {}),
        **({"notes": list(result.notes)} if result.notes else {}),
        **stale_json(result.stale),
    }


def counts_json(counts: ImageCounts) -> dict[str, Any]:
    return {"found": counts.found, "kept": counts.kept, "images": counts.images, "dropped": counts.dropped}


def status_lines(statuses: Iterable[StageStatus]) -> Iterable[str]:
    before: ImageCounts | None = None
    for status in statuses:
        word = "done" if not status.to_do else "to do" if status.manifest is None else "stale"
        about = account(status.manifest.counts, before) if status.manifest and not status.to_do else status.to_do
        before = status.manifest.counts if status.manifest else before
        notes = [f"  {escape_control(note)}" for note in _status_notes(status)]
        yield "\n".join((f"{status.name:<9}{word:>10}   {about}", *notes))


def _status_notes(status: StageStatus) -> list[str]:
    """What to know about a stage although it may be up to date."""
    given = [f"run with {', '.join(status.given)}"] if status.given else []
    return [*given, *status.notes, *(f"{one.why}: {one.fix}" for one in status.findings)]


def status_json(status: StageStatus) -> dict[str, Any]:
    manifest = status.manifest
    counts = {} if manifest is None else {"digest": manifest.digest} | counts_json(manifest.counts)
    return {
        "stage": status.name,
        "up_to_date": not status.to_do and not status.findings,
        "to_do": status.to_do,
        "notes": _status_notes(status),
        **stale_json(status.findings),
    } | counts
