"""What people did outside of prep that a stage's output does not have: changes in dataset/ and in their folders."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.journal import Journal
from pipeline.manifest import read_if_valid
from pipeline.orphans import image_sources, unapplied_decisions
from pipeline.workspace import Workspace
from stages.building.changes import HandChanges, find_changes, without_sources


def changed_by_hand(workspace: Workspace) -> HandChanges:
    """What was changed by hand in dataset/ since prep built it, and is no decision yet."""
    manifest = read_if_valid(workspace.manifest("build"))
    if manifest is None:
        return HandChanges()
    changes = find_changes(manifest, workspace, Journal.read(workspace))
    sources = read_if_valid(workspace.manifest("sources")) if changes.added else None
    return without_sources(changes, image_sources(sources), workspace) if sources is not None else changes


def _dataset(workspace: Workspace) -> str:
    changes = changed_by_hand(workspace)
    return f"dataset/ was changed by hand ({changes})" if changes else ""


# By stage, what makes its output differ from what people decided, in a few words; empty when nothing does.
CHECKS: dict[str, Callable[[Workspace], str]] = {"merge": unapplied_decisions, "build": _dataset}
