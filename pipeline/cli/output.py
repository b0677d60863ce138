"""What commands print: the same words and columns everywhere, and the same facts as JSON for machines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.commands.diff import ManifestChange, ManifestDiff
from pipeline.manifest import ImageCounts
from pipeline.options import format_value
from pipeline.run import StageResult
from pipeline.staleness import StageStatus
from pipeline.tag_text import escape_control
from pipeline.workspace import Workspace

_MOST = 20  # rows of a list that a person reads; --json has all


def account(counts: ImageCounts, before: ImageCounts | None = None) -> str:
    """'41 found = 38 kept + 3 dropped (duplicate 1, truncated 2)'; copies are told where there are any.

    Reasons that `before`, an earlier stage's counts, told already are not told again.
    """
    dropped = sum(counts.dropped.values())
    known = before.dropped if before else {}
    if counts.found != counts.kept + dropped:
        raise AssertionError(f"unaccounted images: {counts}")
    reasons = ", ".join(f"{why} {count}" for why, count in counts.dropped.items() if known.get(why) != count)
    text = f"{counts.found:,} found = {counts.kept:,} kept + {dropped:,} dropped"
    text += f" ({reasons})" if reasons else ""
    return text + (f", {counts.images:,} images" if counts.images != counts.kept else "")


def outcome_line(outcome: StageResult) -> str:
    state = f"{outcome.seconds:7.1f} s" if outcome.worked else "up to date"
    line = f"{outcome.name:<9}{state:>10}   {account(outcome.counts, outcome.before)}{_beside(outcome.others)}"
    return "\n".join((line, *(f"{'':<22}{escape_control(note)}" for note in outcome.notes)))


def _beside(others: dict[str, int]) -> str:
    """'; 4 other files (.txt 3, .json 1)': what lay among the images and is none."""
    if not others:
        return ""
    listed = ", ".join(f"{escape_control(suffix)} {count:,}" for suffix, count in others.items())
    count = sum(others.values())
    return f"; {count:,} other file{'s' if count > 1 else ''} ({listed})"


def outcome_json(outcome: StageResult, workspace: Workspace) -> dict[str, Any]:
    return {
        "stage": outcome.name,
        "worked": outcome.worked,
        "seconds": round(outcome.seconds, 3),
        "manifest": workspace.relative(outcome.manifest.path),
        "digest": outcome.manifest.digest,
        **counts_json(outcome.counts),
        **({"other_files": outcome.others} if outcome.others else {}),
        **({"notes": list(outcome.notes)} if outcome.notes else {}),
    }


def counts_json(counts: ImageCounts) -> dict[str, Any]:
    return {"found": counts.found, "kept": counts.kept, "images": counts.images, "dropped": counts.dropped}


def state_lines(states: Iterable[StageStatus]) -> Iterable[str]:
    before: ImageCounts | None = None
    for state in states:
        word = "done" if not state.to_do else "to do" if state.manifest is None else "stale"
        about = account(state.manifest.counts, before) if state.manifest and not state.to_do else state.to_do
        before = state.manifest.counts if state.manifest else before
        yield f"{state.name:<9}{word:>10}   {about}"


def state_json(state: StageStatus) -> dict[str, Any]:
    manifest = state.manifest
    known = {} if manifest is None else {"digest": manifest.digest} | counts_json(manifest.counts)
    return {"stage": state.name, "up_to_date": not state.to_do, "to_do": state.to_do} | known


def diff_lines(diff: ManifestDiff) -> Iterable[str]:
    """Options first, then how many images each kind of change touches, then the changes themselves."""
    if diff.same:
        yield "No difference: the same options, images, crops, tags and captions."
        return
    for stage, option, before, after in diff.options:
        yield f"{stage:<9}{option}: {format_value(before)} -> {format_value(after)}"
    kinds: dict[str, list[ManifestChange]] = {}
    for change in diff.changes:
        kinds.setdefault(change.what, []).append(change)
    for what, changes in kinds.items():
        yield f"{what}: {len(changes):,} images"
        for change in changes[:_MOST]:
            yield f"  {change.id:<20} {escape_control(change.source)}"
            if change.before or change.after:
                yield f"    - {_short(change.before)}"
                yield f"    + {_short(change.after)}"
        if len(changes) > _MOST:
            yield f"  and {len(changes) - _MOST:,} more; --json lists all"


def _short(text: str) -> str:
    return escape_control(text) or "(nothing)"
