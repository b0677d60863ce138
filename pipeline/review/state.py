"""The state of a review: the images that the filter matches, the selection, and edits, saved at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pipeline.checks.rule_context import TrainingTargets
from pipeline.edits import Edit
from pipeline.errors import PrepError
from pipeline.filter import Filter
from pipeline.journal import Journal, JournalEntry
from pipeline.manifest import Manifest
from pipeline.record import Record
from pipeline.registry import read_recipe, stage_plan
from pipeline.review.load_table import load_table
from pipeline.review.order import image_ranks
from pipeline.review.table import ReviewTable
from pipeline.run import training_targets
from pipeline.tag_text import normalize_tag
from pipeline.workspace import Workspace
from stages.merge import Merge
from stages.merging.compose import ComposedCaption, Composer
from training.sampling.prompt.token_count import count_tokens

if TYPE_CHECKING:
    from numpy import ndarray


@dataclass(slots=True)
class Review:
    """What the user sees and edits; independent of the terminal."""

    workspace: Workspace
    table: ReviewTable
    edits: Journal
    composer: Composer
    ranks: ndarray  # the place of each row of the table in the order of the list
    rows: ndarray  # rows of the table that the filter matches, in that order
    training: TrainingTargets  # how the captions will be trained on
    order: str = "name"  # of ORDERS
    filter: Filter = field(default_factory=Filter)
    position: int = 0  # of the current image in `rows`
    selected: set[int] = field(default_factory=set)  # rows of the table

    @classmethod
    def open(cls, workspace: Workspace, order: str = "name") -> Review:
        """Read the latest manifest and the edits, in an order of ORDERS; PrepError if nothing has been cropped yet."""
        recipe = read_recipe(workspace)
        merge = stage_plan("merge", recipe, {}).stages[0]
        assert isinstance(merge, Merge)
        composer = Composer.of(merge, workspace)
        table = load_table(latest_reviewable(workspace))
        unedited = replace(composer, edits=Journal())
        table.discard_recorded_edits(lambda record: unedited.compose(record).caption)
        edits = composer.edits
        table.apply_edits(edits, table.affected_rows(edits.ids))
        ranks = image_ranks(table, order)
        rows = in_order(matching_rows(table, Filter()), ranks)
        return cls(workspace, table, edits, composer, ranks, rows, training_targets(recipe), order)

    @property
    def total(self) -> int:
        """The number of images without a filter."""
        return len(matching_rows(self.table, Filter()))

    @property
    def row(self) -> int | None:
        """The row of the current image; None if the filter matches none."""
        return int(self.rows[self.position]) if len(self.rows) else None

    @property
    def record(self) -> Record | None:
        """The current image."""
        return None if self.row is None else self.table.record(self.row)

    @property
    def targets(self) -> list[int]:
        """The rows that an edit applies to: the selected ones, or the current one if none is selected."""
        return sorted(self.selected) or ([] if self.row is None else [self.row])

    def composed(self, record: Record) -> ComposedCaption:
        """The caption as merge would write it now, with all edits."""
        return self.composer.compose(record)

    def token_use(self, caption: str) -> tuple[int, int]:
        """The CLIP tokens of a caption as it will be trained on, and the number after which training cuts it off."""
        return count_tokens(caption, self.training.weighted), self.training.max_tokens

    def apply_filter(self, wanted: Filter) -> None:
        """Show the images that a filter matches; the current one stays current if it is among them."""
        import numpy as np

        before = self.row
        self.filter, self.rows = wanted, in_order(matching_rows(self.table, wanted), self.ranks)
        at = 0 if before is None else int(np.searchsorted(self.ranks[self.rows], self.ranks[before]))
        self.position = min(at, max(0, len(self.rows) - 1))

    def sort(self, order: str) -> None:
        """List the images in another order of ORDERS; the current image stays current."""
        self.order, self.ranks = order, image_ranks(self.table, order)
        self.apply_filter(self.filter)

    def move(self, by: int) -> None:
        """Make the image `by` places further on the current one."""
        self.position = max(0, min(self.position + by, len(self.rows) - 1))

    def toggle_selected(self) -> None:
        """Select or deselect the current image."""
        if self.row is not None:
            self.selected ^= {self.row}

    def select_all(self) -> None:
        """Select all images that the filter matches; deselect them if all are selected."""
        shown = set(self.rows.tolist())
        self.selected = self.selected - shown if shown <= self.selected else self.selected | shown

    def decide(self, edits: Iterable[Edit]) -> JournalEntry | None:
        """Apply edits to the targets and save them; None if there is no target."""
        ids = self.edits.owners(self.table.ids[row] for row in self.targets)
        return self._applied(self.edits.append(self.workspace, ids, edits))

    def undo(self) -> JournalEntry | None:
        """Undo the latest entry of the journal; None if there is none."""
        return self._applied(self.edits.undo(self.workspace))

    def redo(self) -> JournalEntry | None:
        """Redo the entry undone last; None if there is none."""
        return self._applied(self.edits.redo(self.workspace))

    def flagged(self, flag: str) -> bool:
        """Whether all targets have a flag."""
        return all(any(e.what == "flag" and e.text == flag for e in self._edits(row)) for row in self.targets)

    def dropped(self) -> bool:
        """Whether the user dropped all targets."""
        return all(any(e.what == "drop" for e in self._edits(row)) for row in self.targets)

    def _edits(self, row: int) -> tuple[Edit, ...]:
        return self.edits.of(self.table.ids[row])

    def _applied(self, entry: JournalEntry | None) -> JournalEntry | None:
        if entry is not None:
            self.table.apply_edits(self.edits, self.table.affected_rows(entry.ids))
        return entry


def in_order(rows: ndarray, ranks: ndarray) -> ndarray:
    """The rows, sorted by their ranks."""
    ordered: ndarray = rows[ranks[rows].argsort()]
    return ordered


def matching_rows(table: ReviewTable, wanted: Filter) -> ndarray:
    """The rows that a filter matches; images that a stage dropped only if it asks for dropped ones."""
    import numpy as np

    mask = table.mask(wanted)
    if not wanted.asks("dropped"):
        mask &= table.kept
    return np.flatnonzero(mask)


def similar_tags(table: ReviewTable, text: str) -> str:
    """Tags like a filter that matches nothing, as a sentence; empty if there is none."""
    close = difflib.get_close_matches(normalize_tag(text.strip('" ')), table.tag_names, n=3)
    return f"Similar tags: {', '.join(close)}." if close else ""


def latest_reviewable(workspace: Workspace) -> Manifest:
    """The manifest of merge if it was made from the current tags, else of the latest stage before it."""
    paths = [workspace.manifest(name) for name in ("tag", "augment", "crop")]
    existing = [path for path in paths if path.is_file()]
    if not existing:
        raise PrepError("There are no images to review yet.", "First: prep crop, then prep tag")
    latest = Manifest.read(existing[0])
    merged = workspace.manifest("merge")
    if merged.is_file() and (manifest := Manifest.read(merged)).history[:-1] == latest.history:
        return manifest
    return latest
