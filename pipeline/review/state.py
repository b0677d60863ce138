"""A review under way: the images a filter leaves, those chosen among them, and every decision on disk at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pipeline.edits import Edit, Journal, JournalEntry
from pipeline.errors import PrepError
from pipeline.filter import Filter
from pipeline.manifest import Manifest
from pipeline.record import Record
from pipeline.registry import read_recipe, stage_plan
from pipeline.review.table import ReviewTable
from pipeline.workspace import Workspace
from stages.merge import Merge
from stages.merging.compose import ComposedCaption, Composer

if TYPE_CHECKING:
    from numpy import ndarray


@dataclass(slots=True)
class Review:
    """What a person sees and decides; knows no terminal."""

    workspace: Workspace
    table: ReviewTable
    edits: Journal
    composer: Composer
    rows: ndarray  # of the table, that the filter leaves
    wanted: Filter = field(default_factory=Filter)
    at: int = 0  # which of `rows` is looked at
    chosen: set[int] = field(default_factory=set)  # rows of the table

    @classmethod
    def open(cls, workspace: Workspace) -> Review:
        """Read the latest manifest and the journal; PrepError when nothing was cropped yet."""
        merge = stage_plan("merge", read_recipe(workspace), {}).stages[0]
        assert isinstance(merge, Merge)
        composer = Composer.of(merge, workspace)
        table = ReviewTable.read(latest(workspace))
        bare = replace(composer, edits=Journal())
        table.forget_noted(lambda record: bare.compose(record).caption)
        edits = composer.edits
        table.follow(edits, table.concerned(edits.ids))
        return cls(workspace, table, edits, composer, rows_of(table, Filter()))

    @property
    def total(self) -> int:
        """How many images there are without a filter."""
        return len(rows_of(self.table, Filter()))

    @property
    def row(self) -> int | None:
        """The row of the image that is looked at; None when the filter leaves none."""
        return int(self.rows[self.at]) if len(self.rows) else None

    @property
    def record(self) -> Record | None:
        return None if self.row is None else self.table.record(self.row)

    @property
    def targets(self) -> list[int]:
        """The rows that a decision concerns: the chosen ones, else the one looked at."""
        return sorted(self.chosen) or ([] if self.row is None else [self.row])

    def composed(self, record: Record) -> ComposedCaption:
        """The caption as merge will write it, with the edits of this moment."""
        return self.composer.compose(record)

    def show(self, wanted: Filter, rows: ndarray) -> None:
        """Show other images; the one looked at stays in sight if it is among them."""
        import numpy as np

        before = self.row
        self.wanted, self.rows = wanted, rows
        self.at = 0 if before is None else min(int(np.searchsorted(rows, before)), max(0, len(rows) - 1))

    def move(self, by: int) -> None:
        self.at = max(0, min(self.at + by, len(self.rows) - 1))

    def toggle(self) -> None:
        if self.row is not None:
            self.chosen ^= {self.row}

    def choose_all(self) -> None:
        """Choose all that the filter leaves; when they all are, none."""
        shown = set(self.rows.tolist())
        self.chosen = self.chosen - shown if shown <= self.chosen else self.chosen | shown

    def decide(self, edits: Iterable[Edit]) -> JournalEntry | None:
        """Write edits of the targets; on disk when this returns. None when there is nothing to decide about."""
        ids = self.edits.owners(self.table.ids[row] for row in self.targets)
        return self._follow(self.edits.append(self.workspace, ids, edits))

    def undo(self) -> JournalEntry | None:
        return self._follow(self.edits.undo(self.workspace))

    def redo(self) -> JournalEntry | None:
        return self._follow(self.edits.redo(self.workspace))

    def flagged(self, flag: str) -> bool:
        """Whether all targets have a flag."""
        return all(any(e.what == "flag" and e.text == flag for e in self._edits(row)) for row in self.targets)

    def dropped(self) -> bool:
        """Whether all targets were dropped by hand."""
        return all(any(e.what == "drop" for e in self._edits(row)) for row in self.targets)

    def _edits(self, row: int) -> tuple[Edit, ...]:
        return self.edits.of(self.table.ids[row])

    def _follow(self, entry: JournalEntry | None) -> JournalEntry | None:
        if entry is not None:
            self.table.follow(self.edits, self.table.concerned(entry.ids))
        return entry


def rows_of(table: ReviewTable, wanted: Filter) -> ndarray:
    """The rows that a filter means; images that a stage dropped only where it asks for dropped ones."""
    import numpy as np

    mask = table.mask(wanted)
    if not wanted.asks("dropped"):
        mask &= table.kept
    return np.flatnonzero(mask)


def latest(workspace: Workspace) -> Manifest:
    """The manifest that knows most: merge's if it was made of the present tags, else the latest one before."""
    found = [workspace.manifest(name) for name in ("tag", "augment", "crop")]
    there = [path for path in found if path.is_file()]
    if not there:
        raise PrepError("There are no images to look at yet.", "First: prep crop, then prep tag")
    before = Manifest.read(there[0])
    merged = workspace.manifest("merge")
    if merged.is_file() and (manifest := Manifest.read(merged)).history[:-1] == before.history:
        return manifest
    return before
