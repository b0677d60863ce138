"""Formats the review's lines: captions, image summaries, list items and messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.edits import Edit
from pipeline.filter_terms import FilterView
from pipeline.journal import JournalEntry
from pipeline.record import ROLE_NAMES, Record
from pipeline.tag_text import escape_control, format_tag, normalize_tag

if TYPE_CHECKING:
    from rich.text import Text

    from stages.merging.compose import ComposedCaption
    from stages.merging.tag_outcomes import TagOutcome

UNSURE = 0.5  # tags with a lower score are marked, with their score
SELECTED, EDITED, FLAGGED = "\u2713", "\u2022", "\u2691"
QUIET, WARM, NEW, GONE = "dim", "#d9a860", "#8fc99b", "#d98a8a"


def caption_text(composed: ComposedCaption, edits: tuple[Edit, ...]) -> Text:
    """The caption; below it, struck through, the tags that it leaves out, grouped by reason."""
    from rich.text import Text

    kept = {normalize_tag(outcome.text): outcome for outcome in composed.outcomes if outcome.kept}
    text = Text()
    for number, part in enumerate(composed.caption.split(", ")):
        text.append(", " if number else "", style=QUIET)
        text.append_text(_part(part, kept.get(normalize_tag(part.replace("\\", ""))), first=number == 0))
    if not composed.caption:
        text.append("no caption", style=QUIET)
    if any(edit.what == "set" for edit in edits):
        text.append("\nwritten by hand", style=QUIET)
    reasons: dict[str, list[TagOutcome]] = {}
    for outcome in composed.outcomes:
        if not outcome.kept:
            reasons.setdefault(outcome.reason, []).append(outcome)
    for reason, outcomes in reasons.items():
        text.append("\n")
        for outcome in outcomes:
            text.append(escape_control(format_tag(outcome.text)), style=f"strike {GONE if 'hand' in reason else QUIET}")
            text.append("  ")
        text.append(reason, style=f"italic {QUIET}")
    return text


def token_line(count: int, limit: int) -> Text:
    """How many tokens a caption has, of those that training reads."""
    from rich.text import Text

    if count > limit:
        return Text(f"\n{count} tokens: training cuts off those after {limit}", style=WARM)
    return Text(f"\n{count} of {limit} tokens", style=QUIET)


def _part(part: str, outcome: TagOutcome | None, first: bool) -> Text:
    from rich.text import Text

    if outcome is None:  # the trigger, a sentence or a keyword
        return Text(escape_control(part), style="bold" if first else "")
    if outcome.annotation.tagger == "human":
        return Text(escape_control(part), style=NEW)
    if outcome.score < UNSURE:
        score = f"\u00a0{outcome.score:.2f}".replace("0.", ".")
        return Text.assemble((escape_control(part), WARM), (score, f"{WARM} {QUIET}"))
    return Text(escape_control(part))


def image_summary(record: Record, view: FilterView) -> Text:
    """One line on an image: file name, subject, role, size, flags and why it was dropped."""
    from rich.text import Text

    text = Text(escape_control(record.source.rpartition("/")[2]), style="bold", no_wrap=True, overflow="ellipsis")
    facts = [record.subject or record.class_name, *([] if record.role == "train" else [ROLE_NAMES[record.role]])]
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


def list_item(view: FilterView, selected: bool) -> Text:
    """An image in the list: a mark if it is selected, its name, and a mark if it has flags or edits."""
    from rich.text import Text

    kinds = {edit.what for edit in view.edits}
    dropped = "drop" in kinds or view.record.drop is not None
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{SELECTED if selected else ' '} ", style=NEW)
    _, _, copy = view.record.id.partition("-")
    source = escape_control(view.record.source.rpartition("/")[2])
    style = f"strike {QUIET}" if dropped else QUIET if copy else ""
    text.append(f"  copy {copy} of {source}" if copy else source, style=style)
    if "flag" in kinds:
        text.append(f" {FLAGGED}", style=WARM)
    elif kinds - {"drop"}:
        text.append(f" {EDITED}", style=NEW)
    return text


def tag_item(tag: str, count: int, on_image: bool, width: int) -> Text:
    """A tag in the list, bold if the current image has it, with its number of images at the right."""
    from rich.text import Text

    number = f"{count:,}"
    text = Text(" ", no_wrap=True).append(escape_control(tag), style="bold" if on_image else "")
    text.truncate(max(1, width - len(number) - 2), overflow="ellipsis", pad=True)
    text.append(f" {number} ", style=QUIET)
    return text


def decision_message(entry: JournalEntry | None, prefix: str, if_none: str) -> str:
    """What a decision, an undo or a redo did: 'undone: add hat; drop · 2 images'."""
    if entry is None:
        return if_none
    edits = "; ".join(str(edit) for edit in entry.edits)
    count = len(entry.ids)
    return f"{prefix}{edits} \u00b7 {count:,} image{'s' if count > 1 else ''}"
