"""Images on the page: the contact sheet with its captions, and small rows of images that a section is about."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.html.document import safe
from pipeline.html.thumbnails import framed
from pipeline.record import Record
from pipeline.report.charts import count
from pipeline.report.facts import DuplicateGroup, ImageRef, ReportData
from pipeline.report.gallery import GROUPS, Gallery, GalleryImage
from pipeline.report.tags import PredictedTag

ROLES = {"train": "training", "reg": "regularization", "val": "validation"}
_SORTS = (
    ("", "by subject"),
    ("name", "by name"),
    ("-tokens", "longest caption first"),
    ("-lost", "most cut away first"),
    ("-upscale", "most enlarged first"),
    ("sharp", "softest first"),
)


def images(facts: ReportData, gallery: Gallery) -> str:
    """The contact sheet, with what was left out said."""
    total, shown = facts.counts.images, len(gallery.sheet)
    if not total:
        return ""
    words = f"All {count(total, 'image')}." if shown == total else _left_out(facts, shown)
    sorts = "".join(f'<option value="{key}">{text}</option>' for key, text in _SORTS)
    cards = "\n".join(_card(gallery.shown[row]) for row in gallery.sheet)
    return (
        f'<section id="images"><h2>Images</h2>\n<p class="soft">{words}</p>\n'
        '<form id="tools" role="search" hidden><label>Show only <input id="filter" type="search" '
        'placeholder="words, with commas between" autocomplete="off"></label> '
        f'<label>sorted <select id="sort">{sorts}</select></label> <output id="told" for="filter"></output></form>\n'
        f'<div id="sheet" class="sheet">{cards}</div></section>'
    )


def row(found: Iterable[tuple[ImageRef, str]], gallery: Gallery) -> str:
    """Small images side by side, each with a few words."""
    figures = "".join(_small(one, words, gallery) for one, words in found)
    return f'<div class="row">{figures}</div>' if figures else ""


def alike(facts: ReportData, gallery: Gallery) -> str:
    """Near-duplicates side by side, those in more than one role first."""
    found = facts.likeness
    if found.bits is None:
        words = "The set is too large to compare all its images." if facts.counts.images else ""
        return f'<section id="alike"><h2>Near-duplicates</h2><p>{words}</p></section>' if words else ""
    if not found.groups:
        words = f"None: no two originals are within {found.bits} bits of perceptual hash."
        return f'<section id="alike"><h2>Near-duplicates</h2><p class="soft">{words}</p></section>'
    shown = found.listed[:GROUPS]
    left = f" {count(found.groups - len(shown), 'more group')} left out." if found.groups > len(shown) else ""
    across = (
        f' <strong class="bad">{count(found.across, "group")} in more than one set.</strong>' if found.across else ""
    )
    groups = "".join(_group(one, gallery) for one in shown)
    return (
        f'<section id="alike"><h2>Near-duplicates</h2>\n<p class="soft">{count(found.groups, "group")} of '
        f"{count(found.images, 'image')}: each within {found.bits} of 64 bits of perceptual hash of another, "
        f'augmented copies left out.{left}{across}</p>\n<div class="groups">{groups}</div></section>'
    )


def seen(facts: ReportData, gallery: Gallery) -> str:
    """What CLIP saw: scenes that no hash shows to be one, and images unlike the rest of their subject."""
    found = facts.seen
    if found is None:
        return ""
    left = f", the first {GROUPS}" if found.scenes > GROUPS else ""
    groups = "".join(_group(one, gallery) for one in found.listed[:GROUPS])
    unlike = row([(one, f"{far:.2f} from its nearest") for one, far in found.unlike], gallery)
    unlike = unlike or '<p class="soft">None.</p>'
    return (
        f'<section id="clip"><h2>Alike and unlike</h2>\n<p class="soft">By CLIP, subject by subject: '
        f"{found.compared:,} of {count(found.images, 'original')} compared.</p>\n<h3>One scene</h3>"
        f'<p class="soft">{count(found.scenes, "group")} whose hashes differ{left}.</p>'
        f'<div class="groups">{groups}</div>\n<h3>Unlike the rest</h3>{unlike}</section>'
    )


def _left_out(facts: ReportData, shown: int) -> str:
    total = facts.counts.images
    return (
        f"{shown:,} of {total:,} images, spread evenly, originals before copies; {total - shown:,} are left out here "
        f"and counted everywhere else. More with <code>prep report --images {min(total, 4 * max(1, shown))}</code>."
    )


def _group(one: DuplicateGroup, gallery: Gallery) -> str:
    sets = " and ".join(ROLES[role] for role in one.roles)
    mark = f'<strong class="bad">in {sets}</strong>' if len(one.roles) > 1 else sets
    more = f", the first {len(one.images)}" if one.count > len(one.images) else ""
    named = [(image, ROLES[gallery.shown[image.row].record.role]) for image in one.images]
    return (
        f'<div class="group"><p class="soft">{count(one.count, "image")}{more}, {mark}</p>{row(named, gallery)}</div>'
    )


def _small(one: ImageRef, words: str, gallery: Gallery) -> str:
    shown = gallery.shown[one.row]
    image = framed(shown.thumb, shown.record.image, _words(shown.record))
    link = f'<a href="#p-{safe(one.id)}">{image}</a>' if one.row in gallery.sheet else image
    detail = f"<br>{safe(words)}" if words else ""
    return f"<figure>{link}<figcaption>{name(shown.record)}{detail}</figcaption></figure>"


def _card(shown: GalleryImage) -> str:
    """One image of the contact sheet: the caption large, what is known of it small."""
    record = shown.record
    caption = f"<p>{safe(record.caption)}</p>" if record.caption else ""
    badge = "" if record.role == "train" else f'<span class="badge">{ROLES[record.role]}</span>'
    badge += f'<span class="badge">{safe(record.transform.kind)} copy</span>' if record.transform else ""
    crop = record.crop
    data = {
        "name": record.source.rpartition("/")[2],
        "tokens": str(shown.tokens),
        "lost": f"{crop.cropped_fraction:g}" if crop else "0",
        "upscale": f"{crop.upscale:g}" if crop else "1",
        "sharp": "9" if shown.sharpness is None else f"{shown.sharpness:g}",
    }
    attributes = " ".join(f'data-{name}="{safe(value)}"' for name, value in data.items())
    return (
        f'<figure id="p-{safe(record.id)}" {attributes}>'
        f'<div class="plate">{framed(shown.thumb, record.image, _words(record))}</div>'
        f'<figcaption>{caption}{_hand(record)}{_tags(shown.tags)}<p class="soft">{badge}{name(record)}<br>'
        f"{_about(shown)}</p></figcaption></figure>"
    )


def _tags(tags: tuple[PredictedTag, ...]) -> str:
    """The tags above their thresholds; those that the caption leaves out struck through."""
    if not tags:
        return ""
    listed = ", ".join(
        f"<span>{words}</span>" if tag.written else f"<s>{words}</s>"
        for tag in tags
        for words in [safe(tag.text) + ("" if tag.score is None else f" <small>{tag.score:.2f}</small>")]
    )
    out = sum(not tag.written for tag in tags)
    words = count(len(tags), "tag") + (f", {out} left out" if out else "")
    return f"<details><summary>{words}</summary><p>{listed}</p></details>"


def _hand(record: Record) -> str:
    """What people changed."""
    edits = [f"{a.category} {a.text}".strip() for a in record.annotations if a.kind == "edit"]
    return f'<p class="hand">by hand: {safe("; ".join(edits))}</p>' if edits else ""


def _about(shown: GalleryImage) -> str:
    record, crop = shown.record, shown.record.crop
    who = record.subject or record.class_name
    parts = [who, f"{record.image.width} x {record.image.height}" if record.image else ""]
    parts += [f"{crop.cropped_fraction:.0%} cut away" if crop and crop.cropped_fraction >= 0.005 else ""]
    parts += [f"enlarged {crop.upscale:.2f} times" if crop and crop.upscale > 1 else ""]
    parts += [f"sharpness {shown.sharpness:.2f}" if shown.sharpness is not None else ""]
    parts += [count(shown.tokens, "token") if record.caption else ""]
    return safe(", ".join(part for part in parts if part))


def _words(record: Record) -> str:
    return record.caption or record.source.rpartition("/")[2]


def name(record: Record | ImageRef) -> str:
    """An image's file name, with the number of a copy; whole path and id come up with the pointer."""
    copy = f" {record.id.partition('-')[2]}" if "-" in record.id else ""
    return (
        f'<span title="{safe(record.source)}, {safe(record.id)}">{safe(record.source.rpartition("/")[2] + copy)}</span>'
    )
