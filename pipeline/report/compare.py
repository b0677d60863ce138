"""prep compare: what several taggers say about the same image, side by side, with who agrees."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import PrepError
from pipeline.manifest import Manifest
from pipeline.record import Annotation, Record
from pipeline.tag_text import escape_control, format_tag, normalize_tag
from pipeline.workspace import Workspace
from stages.merging.thresholds import Thresholds, select_tags

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

Agreement = Literal["all", "split", "one", "alone", "below"]
# What a mark means. Disputed: several say it but not all, or another gives it a lower score.
# 'alone': only one tagger gives this image tags, so there is nothing to compare.
MARKS: dict[Agreement, tuple[str, str]] = {
    "all": ("\u25cf", "said by all"),
    "split": ("\u25d0", "disputed"),
    "one": ("\u25cb", "said by one only"),
    "alone": ("", "one tagger only"),
    "below": ("", "below the threshold"),
}
_STYLES: dict[Agreement, str] = {"all": "bold green", "split": "", "one": "yellow", "alone": "", "below": "dim"}


@dataclass(frozen=True, slots=True)
class ComparedTag:
    """One tag of one image: who gives it which score."""

    text: str
    kind: str  # tag or rating
    category: str
    scores: dict[str, float | None]  # by tagger; None: said without a score
    predicted: frozenset[str]  # taggers that say it: whose score is enough for a caption
    agreement: Agreement

    @property
    def best(self) -> float:
        return max(1.0 if score is None else score for score in self.scores.values())


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that the taggers say about one image."""

    record: Record
    taggers: tuple[str, ...]  # taggers that give it tags or ratings, in the order in which they ran
    rows: tuple[ComparedTag, ...]
    captions: tuple[Annotation, ...]
    measures: tuple[Annotation, ...]


@dataclass(frozen=True, slots=True)
class TaggedManifests:
    """The manifests that hold annotations: the joined one, and single taggers' that it does not hold already."""

    main: Manifest
    others: tuple[Manifest, ...]

    @classmethod
    def find(cls, workspace: Workspace) -> TaggedManifests:
        """Open them; PrepError when nothing has been tagged yet."""
        joined = workspace.manifest("tag")
        singles = [Manifest.read(path) for path in sorted(joined.parent.glob("tag.*.parquet"))]
        if not joined.is_file() and not singles:
            raise PrepError("Nothing has been tagged yet.", "First: prep tag")
        main = Manifest.read(joined) if joined.is_file() else singles[0]
        known = {step.key for step in main.history}
        return cls(main, tuple(single for single in singles if single.history[-1].key not in known))


def sheets(tagged: TaggedManifests, names: tuple[str, ...], cut: Thresholds) -> Iterator[Comparison]:
    """The sheets of the images named by id, file name or path, in order of their ids; of all kept ones without names.

    Augmented copies are only shown where their own id is named. PrepError for a name that no image has.
    """
    chosen: Iterable[Record] = _named(tagged.main, names) if names else _kept(tagged.main)
    finders = [_finder(manifest) for manifest in tagged.others]
    for record in chosen:
        annotations = list(record.annotations)
        for find in finders:
            annotations += _added(find(record.id), record, {a.tagger for a in annotations})
        yield sheet(record, annotations, cut)


def sheet(record: Record, annotations: list[Annotation], cut: Thresholds) -> Comparison:
    """Compare what is said of one image; tags are the same when prep's plain form of them is.

    A tagger says a tag when merge, with the same `cut`, would take it.
    """
    voices = tuple(dict.fromkeys(a.tagger for a in annotations if a.kind in ("tag", "rating")))
    tags: dict[str, list[Annotation]] = {}
    for a in annotations:
        if a.kind == "tag":
            tags.setdefault(normalize_tag(a.text), []).append(a)
    loud: dict[str, set[str]] = {}
    for a in select_tags(annotations, cut):
        loud.setdefault(normalize_tag(a.text), set()).add(a.tagger)
    rows = [_row(said, voices, frozenset(loud.get(text, ()))) for text, said in tags.items()]
    rows = [row for row in rows if row.agreement != "below"]
    order = list(MARKS)
    rows.sort(key=lambda row: (order.index(row.agreement), -row.best, normalize_tag(row.text)))
    captions = tuple(a for a in annotations if a.kind == "caption")
    measures = tuple(a for a in annotations if a.kind == "measure")
    return Comparison(record, voices, (*_ratings(annotations), *rows), captions, measures)


def lines(found: Comparison) -> Iterator[str]:
    """One line a tag or caption, tab-separated: id, source, kind, agreement, text, who said it."""
    head = (found.record.id, escape_control(found.record.source))
    for row in found.rows:
        said = ", ".join(f"{by} {number(score)}" for by, score in row.scores.items())
        yield "\t".join((*head, row.kind, row.agreement, escape_control(format_tag(row.text)), escape_control(said)))
    for a in (*found.captions, *found.measures):
        yield "\t".join((*head, a.kind, "", escape_control(a.text), escape_control(f"{a.tagger} {number(a.score)}")))


def plain_sheet(found: Comparison) -> dict[str, Any]:
    """A sheet as JSON values."""
    return {
        "id": found.record.id,
        "source": found.record.source,
        "taggers": list(found.taggers),
        "tags": [
            {"text": r.text, "kind": r.kind, "category": r.category, "agreement": r.agreement, "scores": r.scores}
            | {"said_by": [by for by in r.scores if by in r.predicted]}
            for r in found.rows
        ],
        "captions": [{"tagger": a.tagger, "text": a.text, "score": a.score} for a in found.captions],
        "measures": [
            {"tagger": a.tagger, "text": a.text, "category": a.category, "score": a.score} for a in found.measures
        ],
    }


def terminal(found: Comparison, width: int) -> Iterator[RenderableType]:
    """A sheet for a terminal of `width` columns: heading, table of tags, captions one under another, measures."""
    from rich.padding import Padding
    from rich.text import Text

    yield Text.assemble((escape_control(found.record.source), "bold"), ("  " + found.record.id, "dim"))
    if found.record.drop:
        yield Text(f"dropped by {found.record.drop.stage}: {escape_control(found.record.drop.reason)}", style="yellow")
    if found.rows:
        yield _table(found, width)
    for a in found.captions:
        yield Text(escape_control(a.tagger), style="cyan")
        yield Padding(Text(escape_control(a.text)), (0, 0, 0, 2))
    if scored := [measure(a) for a in found.measures if a.score is not None]:
        yield Text(escape_control(", ".join(scored)), style="dim")
    yield from (Text(escape_control(a.text), style="yellow") for a in found.measures if a.score is None)
    if not (found.rows or found.captions):
        yield Text("Nothing was said of it at this threshold.", style="dim")
    yield Text()


def measure(a: Annotation) -> str:
    """'sharpness 0.98'; what has no score, such as a file that cannot be read, is told apart from these."""
    return f"{format_tag(a.text)} {number(a.score)}"


def number(score: float | None) -> str:
    return "said" if score is None else f"{score:.2f}"


def counts(rows: Iterable[ComparedTag]) -> str:
    """'4 said by all, 2 disputed, 9 said by one only': the tags of an image in a few words."""
    tags = [row.agreement for row in rows if row.kind == "tag"]
    parts = [f"{tags.count(kind)} {MARKS[kind][1]}" for kind in ("all", "split", "one") if kind in tags]
    return ", ".join(parts) or f"{len(tags)} tags"


def _table(found: Comparison, width: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, header_style="dim")
    table.add_column("", width=1)
    table.add_column("tag", overflow="fold", min_width=10)
    wide = width >= 40 + 12 * len(found.taggers)  # in a narrow terminal the scores need the room
    if wide:
        table.add_column("category", style="dim", overflow="fold")
    for voice in found.taggers:
        name = Text(escape_control(voice).replace(":", "\n", 1))
        table.add_column(name, justify="right", overflow="fold", vertical="bottom", min_width=4)
    for row in found.rows:
        cells = [
            Text(number(row.scores[by]), style="" if by in row.predicted else "dim")
            if by in row.scores
            else Text("\u00b7", style="dim")
            for by in found.taggers
        ]
        style = _STYLES[row.agreement]
        category = [Text(escape_control(row.category), style="dim")] if wide else []
        words = escape_control(format_tag(row.text)) + (" (rating)" if row.kind == "rating" and not wide else "")
        mark, tag = Text(MARKS[row.agreement][0], style=style), Text(words, style=style)
        table.add_row(mark, tag, *category, *cells)
    return table


def _row(said: list[Annotation], voices: tuple[str, ...], loud: frozenset[str]) -> ComparedTag:
    scores: dict[str, float | None] = {}
    for a in said:
        old = scores.get(a.tagger, 0.0)
        scores[a.tagger] = None if a.score is None or old is None else max(a.score, old)
    ordered = {by: scores[by] for by in voices if by in scores}
    agreement = _agreement(len(loud), len(ordered), len(voices))
    return ComparedTag(said[0].text, "tag", said[0].category, ordered, loud, agreement)


def _agreement(loud: int, heard: int, voices: int) -> Agreement:
    """From how many say it, how many give it any score, and how many there are."""
    if not loud:
        return "below"
    if voices == 1:
        return "alone"
    if loud == voices:
        return "all"
    return "one" if heard == 1 else "split"


def _ratings(annotations: list[Annotation]) -> Iterator[ComparedTag]:
    """Each tagger's highest rating; one row where they agree."""
    winners: dict[str, Annotation] = {}
    for a in annotations:
        if a.kind == "rating" and (a.tagger not in winners or (a.score or 0.0) > (winners[a.tagger].score or 0.0)):
            winners[a.tagger] = a
    for text in dict.fromkeys(a.text for a in winners.values()):
        scores = {by: a.score for by, a in winners.items() if a.text == text}
        agreement = _agreement(len(scores), len(winners), len(winners))
        yield ComparedTag(text, "rating", "rating", scores, frozenset(scores), agreement)


def _kept(manifest: Manifest) -> Iterator[Record]:
    return (record for record in manifest.records() if record.kept and not record.origin)


def _named(manifest: Manifest, names: tuple[str, ...]) -> list[Record]:
    wanted, seen = set(names), set[str]()
    met: set[str] = set()
    found: list[Record] = []
    for record in manifest.records():
        path = PurePosixPath(record.source)
        own = {record.id} if record.origin else {record.id, record.source, path.name, path.stem}
        seen |= own
        if hits := own & wanted:
            met |= hits
            found.append(record)
    if lost := [name for name in names if name not in met]:
        close = difflib.get_close_matches(lost[0], seen, n=1)
        mend = f"Did you mean {close[0]!r}?" if close else "Name a file or an id; prep preview shows them."
        raise PrepError(f"No image is named {lost[0]!r}.", mend)
    return found


def _finder(manifest: Manifest) -> Callable[[str], Record | None]:
    """Look records up in order of their ids: one pass, whatever the number of images."""
    records = manifest.records()
    at: list[Record] = []

    def find(id: str) -> Record | None:
        while not at or at[0].id < id:
            following = next(records, None)
            if following is None:
                return None
            at[:] = [following]
        return at[0] if at[0].id == id else None

    return find


def _added(other: Record | None, record: Record, known: set[str]) -> Iterator[Annotation]:
    """What another manifest has to add: of taggers not heard yet, about the very same pixels."""
    pixels = record.image.pixel_sha256 if record.image else ""
    if other is not None and pixels == (other.image.pixel_sha256 if other.image else ""):
        yield from (a for a in other.annotations if a.tagger not in known)
