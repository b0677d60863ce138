"""The lines of the review: an image's caption with what left it and why, its place in the list, tags and counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.edits import Edit, JournalEntry
from pipeline.filter_terms import FilterView
from pipeline.record import Record
from pipeline.tag_text import escape_control, normalize_tag

if TYPE_CHECKING:
    from rich.text import Text

    from stages.merging.compose import ComposedCaption
    from stages.merging.tag_outcomes import TagOutcome

UNSURE = 0.5  # a tag below this score is marked with it
CHOSEN, EDITED, FLAGGED = "\u2713", "\u2022", "\u2691"
QUIET, WARM, NEW, GONE = "dim", "#d9a860", "#8fc99b", "#d98a8a"


def caption(composed: ComposedCaption, edits: tuple[Edit, ...]) -> Text:
    """The caption as it will be; below it, struck through and by reason, the tags that left it."""
    from rich.text import Text

    kept = {normalize_tag(fate.text): fate for fate in composed.outcomes if fate.kept}
    text = Text()
    for number, part in enumerate(composed.caption.split(", ")):
        text.append(", " if number else "", style=QUIET)
        text.append_text(_part(part, kept.get(normalize_tag(part.replace("\\", ""))), first=number == 0))
    if not composed.caption:
        text.append("no caption", style=QUIET)
    if any(edit.what == "set" for edit in edits):
        text.append("\nwritten by hand", style=QUIET)
    reasons: dict[str, list[TagOutcome]] = {}
    for fate in composed.outcomes:
        if not fate.kept:
            reasons.setdefault(fate.reason, []).append(fate)
    for reason, fates in reasons.items():
        text.append("\n")
        for fate in fates:
            text.append(escape_control(fate.text), style=f"strike {GONE if 'hand' in reason else QUIET}")
            text.append("  ")
        text.append(reason, style=f"italic {QUIET}")
    return text


def _part(part: str, fate: TagOutcome | None, first: bool) -> Text:
    from rich.text import Text

    if fate is None:  # trigger, sentence or keyword
        return Text(escape_control(part), style="bold" if first else "")
    if fate.annotation.tagger == "human":
        return Text(escape_control(part), style=NEW)
    if fate.score < UNSURE:
        return Text.assemble(
            (escape_control(part), WARM), (f"\u00a0{fate.score:.2f}".replace("0.", "."), f"{WARM} {QUIET}")
        )
    return Text(escape_control(part))


def about(record: Record, view: FilterView) -> Text:
    """One line on an image: its file, whose it is, its size, what people noted."""
    from rich.text import Text

    text = Text(escape_control(record.source.rpartition("/")[2]), style="bold", no_wrap=True, overflow="ellipsis")
    facts = [record.subject or record.class_name, *([] if record.role == "train" else [_ROLES[record.role]])]
    facts += [record.transform.kind] if record.transform else []
    facts += [f"{record.image.width}x{record.image.height}"] if record.image else []
    text.append("  " + " \u00b7 ".join(map(escape_control, facts)), style=QUIET)
    for edit in view.edits:
        if edit.what == "flag":
            text.append(f"  {FLAGGED} {edit.text}", style=WARM)
        elif edit.what == "drop":
            text.append("  dropped", style=GONE)
    if record.drop and view.record.drop:
        text.append(f"  dropped by {record.drop.stage}: {escape_control(record.drop.reason)}", style=GONE)
    return text


_ROLES = {"reg": "regularization", "val": "validation"}


def listed(view: FilterView, chosen: bool) -> Text:
    """An image in the list."""
    from rich.text import Text

    whats = {edit.what for edit in view.edits}
    gone = "drop" in whats or view.record.drop is not None
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{CHOSEN if chosen else ' '} ", style=NEW)
    _, _, copy = view.record.id.partition("-")
    source = escape_control(view.record.source.rpartition("/")[2])
    text.append(
        f"  copy {copy} of {source}" if copy else source, style=f"strike {QUIET}" if gone else QUIET if copy else ""
    )
    if "flag" in whats:
        text.append(f" {FLAGGED}", style=WARM)
    elif whats - {"drop"}:
        text.append(f" {EDITED}", style=NEW)
    return text


def counted(tag: str, count: int, present: bool, width: int) -> Text:
    """A tag with the number of images that have it, at the right."""
    from rich.text import Text

    number = f"{count:,}"
    text = Text(" ", no_wrap=True).append(escape_control(tag), style="bold" if present else "")
    text.truncate(max(1, width - len(number) - 2), overflow="ellipsis", pad=True)
    text.append(f" {number} ", style=QUIET)
    return text


def told(entry: JournalEntry | None, what: str, nothing: str) -> str:
    """What a decision, an undo or a redo did, in one sentence."""
    if entry is None:
        return nothing
    edits = "; ".join(str(edit) for edit in entry.edits)
    count = len(entry.ids)
    return f"{what}{edits} \u00b7 {count:,} image{'s' if count > 1 else ''}"
