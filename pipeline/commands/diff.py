"""prep diff: the changes between two manifests: options, images, crops, tags, captions."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pipeline.manifest import Manifest
from pipeline.record import Record


@dataclass(frozen=True, slots=True)
class ManifestChange:
    """A difference of one image between two manifests."""

    id: str
    source: str
    what: str  # added, removed, role, status, crop, image, edits, tags, caption, dataset path
    before: str = ""  # of tags: those that were removed
    after: str = ""  # of tags: those that were added


@dataclass(frozen=True, slots=True)
class ManifestDiff:
    """All differences of two manifests; `options` as (stage, option, before, after)."""

    options: list[tuple[str, str, object, object]] = field(default_factory=list)
    changes: list[ManifestChange] = field(default_factory=list)

    @property
    def same(self) -> bool:
        return not self.options and not self.changes


def diff(before: Manifest, after: Manifest) -> ManifestDiff:
    """Compare two manifests by image id; each is read once."""
    return ManifestDiff(
        _options(before, after), [change for pair in _pairs(before, after) for change in _changes(*pair)]
    )


_ASPECTS: dict[str, Callable[[Record], str]] = {
    "role": lambda r: f"{r.role} {r.subject} {r.class_name}".strip(),
    "status": lambda r: f"dropped, {r.drop.reason}" if r.drop else "kept",
    "crop": lambda r: _crop(r),
    "image": lambda r: r.image.pixel_sha256[:16] if r.image else "",
    "edits": lambda r: "; ".join(f"{a.category} {a.text}".strip() for a in r.annotations if a.kind == "edit"),
    "caption": lambda r: r.caption,
    "dataset path": lambda r: r.dataset_path,
}


def _changes(old: Record | None, new: Record | None) -> Iterator[ManifestChange]:
    if old is None or new is None:
        record = old or new
        assert record is not None
        yield ManifestChange(record.id, record.source, "removed" if new is None else "added")
        return
    for what, aspect in _ASPECTS.items():
        if (was := aspect(old)) != (now := aspect(new)):
            yield ManifestChange(new.id, new.source, what, was, now)
    was_tags, now_tags = (_tags(record) for record in (old, new))
    if was_tags != now_tags:
        yield ManifestChange(new.id, new.source, "tags", _texts(was_tags - now_tags), _texts(now_tags - was_tags))


def _tags(record: Record) -> set[tuple[str, str, str]]:
    return {(a.tagger, a.kind, a.text) for a in record.annotations if a.kind != "edit"}


def _texts(tags: set[tuple[str, str, str]]) -> str:
    return ", ".join(f"{text} ({by})" for by, _, text in sorted(tags))


def _crop(record: Record) -> str:
    if record.crop is None:
        return ""
    left, top, right, bottom = record.crop.box
    transform = f" {record.transform}" if record.transform else ""
    size = f"{record.crop.width}x{record.crop.height}"
    return f"{size} of {left:.1f},{top:.1f} to {right:.1f},{bottom:.1f} ({record.crop.focus}){transform}"


def _options(before: Manifest, after: Manifest) -> list[tuple[str, str, object, object]]:
    old, new = ({step.stage: step for step in manifest.history} for manifest in (before, after))
    rows: list[tuple[str, str, object, object]] = []
    for stage in dict.fromkeys([*old, *new]):
        if stage not in old or stage not in new:
            rows.append((stage, "stage", "run" if stage in old else "not run", "run" if stage in new else "not run"))
            continue
        was, now = old[stage].params, new[stage].params
        rows += [
            (stage, name, was.get(name), now.get(name)) for name in {**was, **now} if was.get(name) != now.get(name)
        ]
        if old[stage].models != new[stage].models:
            models = [", ".join(f"{m.name} {m.sha256[:12]}" for m in side[stage].models) for side in (old, new)]
            rows.append((stage, "model", models[0], models[1]))
    return rows


def _pairs(before: Manifest, after: Manifest) -> Iterator[tuple[Record | None, Record | None]]:
    """The records of both in order of their ids, paired where the id is the same."""

    def side(number: int, manifest: Manifest) -> Iterator[tuple[str, int, Record]]:
        return ((record.id, number, record) for record in manifest.records())

    waiting: Record | None = None
    for _, number, record in heapq.merge(side(0, before), side(1, after), key=lambda item: item[:2]):
        if number == 0:
            if waiting is not None:
                yield waiting, None
            waiting = record
        elif waiting is not None and waiting.id == record.id:
            yield waiting, record
            waiting = None
        else:
            if waiting is not None:
                yield waiting, None
                waiting = None
            yield None, record
    if waiting is not None:
        yield waiting, None
