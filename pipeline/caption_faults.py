"""Lists the caption files that the tagger `files` could not read, as it recorded them with their images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.plural import counted
from pipeline.record import UNREADABLE, Record

if TYPE_CHECKING:
    from pipeline.manifest import Manifest

_NAMED = 3  # files that a line names
_CATEGORY, _TEXT = (f"annotations.list.element.{name}" for name in ("category", "text"))


@dataclass(frozen=True, slots=True)
class UnreadableCaption:
    """An image with a caption file that was not read, and why: 'a.txt is not UTF-8: byte 0xe9 at 9'."""

    row: int  # its row in the manifest
    id: str
    source: str
    reason: str


def caption_faults(record: Record) -> tuple[str, ...]:
    """Why caption files of an image were not read, each with the file's name; empty if all were."""
    return tuple(a.text for a in record.annotations if a.kind == "measure" and a.category == UNREADABLE)


def unreadable_captions(manifest: Manifest) -> Iterator[UnreadableCaption]:
    """The faults recorded with a manifest's kept images, in the order of its rows; reads columns alone."""
    import pyarrow.compute as pc

    start = 0
    for table in manifest.tables(["id", "source", "drop.reason", _CATEGORY, _TEXT], as_dictionary=[_CATEGORY]):
        for batch in table.to_batches():
            lists = batch.column("annotations")
            flat = pc.list_flatten(lists)
            found = pc.indices_nonzero(pc.equal(pc.struct_field(flat, "category").cast("string"), UNREADABLE))
            rows = pc.list_parent_indices(lists).take(found).to_pylist()
            reasons = pc.struct_field(flat, "text").take(found).to_pylist()
            images = batch.select(["id", "source", "drop"]).take(rows).to_pylist() if rows else []
            for row, image, reason in zip(rows, images, reasons, strict=True):
                if image["drop"] is None:
                    yield UnreadableCaption(start + row, image["id"], image["source"], reason)
            start += batch.num_rows


def summarize_faults(manifest: Manifest) -> str:
    """'The captions of 2 images cannot be read: a.txt is not UTF-8, ...'; empty if all were read."""
    found = list(unreadable_captions(manifest))
    if not found:
        return ""
    reasons = list(dict.fromkeys(fault.reason for fault in found))
    more = f" and {len(reasons) - _NAMED:,} more" if len(reasons) > _NAMED else ""
    images = counted(len({fault.id for fault in found}), "image")
    return f"caption files of {images} cannot be read: {'; '.join(reasons[:_NAMED])}{more}"
