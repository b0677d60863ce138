"""The page's sections of numbers: the set as a whole, its tags, its subjects, sizes, captions and quality."""

from __future__ import annotations

from pipeline.clip_tokens import WINDOW
from pipeline.html.document import safe
from pipeline.report.charts import Right, bars, count, decimal, meter, number, share, table
from pipeline.report.facts import Distribution, ReportData, TagAssociation
from pipeline.report.gallery import Gallery
from pipeline.report.image_rows import ROLES, name, row


def overview(facts: ReportData, gallery: Gallery) -> str:
    """Every file accounted for, and whose images there are."""
    counts = facts.counts
    dropped = sum(counts.dropped.values())
    tiles = (("files found", counts.found), ("kept", counts.kept), ("dropped", dropped), ("images", counts.images))
    tiled = "".join(f"<div><dt>{words}</dt><dd>{value:,}</dd></div>" for words, value in tiles)
    rows = "".join(
        f'<tr><th scope="row">{safe(part.subject or part.class_name)}</th><td>{safe(part.class_name)}</td>'
        f"<td>{ROLES[part.role]}</td>{number(part.originals)}{number(part.images)}{number(part.shown)}</tr>"
        for part in facts.parts
    )
    heads = ("who", "class", "set", Right("originals"), Right("with copies"), Right("shown in an epoch"))
    parts = table(heads, rows, "parts") if rows else ""
    return f'<section id="set"><h2>The set</h2><dl class="tiles">{tiled}</dl>{parts}</section>'


def tags(facts: ReportData, gallery: Gallery) -> str:
    """How often each tag is said by the taggers and written in captions."""
    if not facts.tags:
        return ""
    merged = facts.captions is not None
    most = max(max(one.said, one.written) for one in facts.tags)
    rows = "".join(
        f'<tr><td class="text" data-tag="{safe(one.tag)}">{safe(one.tag)}</td>'
        f"{number(one.written) if merged else ''}{number(one.said)}"
        f"{meter(one.written / most, one.said / most) if merged else meter(one.said / most)}</tr>"
        for one in facts.tags
    )
    left = facts.tags_in_all - len(facts.tags)
    told = f"The {len(facts.tags):,} most frequent of {facts.tags_in_all:,}." if left else "All of them."
    words = f"{told} Images of which a tagger says it above its threshold" + (
        ", and images whose caption has it; a pale end is what was absorbed or left out." if merged else "."
    )
    heads = ("tag", *((Right("in captions"),) if merged else ()), Right("said"), "")
    return f'<section id="tags"><h2>Tags</h2><p class="soft">{words}</p>{table(heads, rows, "wide")}</section>'


def subjects(facts: ReportData, gallery: Gallery) -> str:
    """Which tags go with which subject."""
    found = {subject: some for subject, some in facts.bonds.items() if some}
    if not found:
        return ""
    tables = "".join(f"<h3>{safe(subject)}</h3>{_bonds(some)}" for subject, some in found.items())
    words = (
        "How often a tag comes with the subject, and how often elsewhere: PMI is the first over the second in "
        "doublings, z how far from chance that is. Near-duplicates and copies of an image count once. The last column "
        "is what <code>prep merge --suggest</code> makes of it."
    )
    return f'<section id="subjects"><h2>By subject</h2><p class="soft">{words}</p>{tables}</section>'


def _bonds(some: tuple[TagAssociation, ...]) -> str:
    """One subject's tags; where nobody knows how common any is elsewhere, there are no columns for it."""
    known = any(bond.elsewhere is not None for bond in some)
    rows = "".join(
        f'<tr><td class="text" data-tag="{safe(bond.tag)}">{safe(bond.tag)}</td>{share(bond.coverage)}'
        f"{meter(bond.coverage)}"
        + (f"{share(bond.elsewhere)}{decimal(bond.pmi)}{decimal(bond.z)}" if known else "")
        + f'<td><strong>{safe(bond.action)}</strong> <span class="soft">{safe(bond.reason)}</span></td></tr>'
        for bond in some
    )
    evidence = (Right("elsewhere"), Right("PMI"), Right("z")) if known else ()
    return table(("tag", Right("with it"), "", *evidence, "suggestion"), rows, "wide bonds")


def sizes(facts: ReportData, gallery: Gallery) -> str:
    """Buckets with what cropping to them cost."""
    if not facts.buckets:
        return ""
    most = max(bucket.images for bucket in facts.buckets)
    rows = "".join(
        f'<tr><th scope="row">{bucket.width} x {bucket.height}</th>{number(bucket.images)}'
        f"{meter(bucket.images / most)}{share(bucket.lost)}{share(bucket.worst)}</tr>"
        for bucket in facts.buckets
    )
    heads = ("size", Right("images"), "", Right("cut away on average"), Right("at most"))
    lost = bars("of the image", "originals", facts.lost.bars)
    return (
        f'<section id="sizes"><h2>Sizes and crop loss</h2>{table(heads, rows, "wide")}'
        f"<h3>Cut away</h3>{lost}{_worst(facts.lost, gallery, '{:.0%} cut away')}</section>"
    )


def captions(facts: ReportData, gallery: Gallery) -> str:
    """Lengths in the text encoder's tokens."""
    found = facts.captions
    if found is None:
        return ""
    over = f"{count(found.over, 'caption')} over {WINDOW}: the model never sees the end unless training reads more."
    facts_told = (
        f"{found.mean:.1f} tokens on average, {count(found.distinct, 'different caption')}",
        f"{found.empty:,} empty" if found.empty else "",
    )
    longest = "".join(f"<tr>{number(tokens)}<td>{name(one)}</td></tr>" for one, tokens in found.longest)
    return (
        f'<section id="captions"><h2>Captions</h2><p class="soft">{", ".join(filter(None, facts_told))}.</p>'
        + (f'<p class="bad">{over}</p>' if found.over else "")
        + f'<div class="pair"><div>{bars("CLIP tokens", "captions", found.bars)}</div>'
        f"<div>{table((Right('tokens'), 'the longest captions'), longest)}</div></div></section>"
    )


def quality(facts: ReportData, gallery: Gallery) -> str:
    """Blur and resolution, of originals."""
    if not facts.counts.images:
        return ""
    unknown = facts.sharpness.unknown
    unmeasured = (
        f'<p class="soft">{count(unknown, "image")} without contrast or gone: not measured.</p>' if unknown else ""
    )
    soft = f'<p class="bad">{count(facts.sharpness.beyond, "blurred image")}.</p>' if facts.sharpness.beyond else ""
    large = (
        f'<p class="bad">{count(facts.enlarged.beyond, "image")} enlarged much.</p>' if facts.enlarged.beyond else ""
    )
    sharpness = bars("0 to 1", "originals", facts.sharpness.bars)
    return (
        '<section id="quality"><h2>Sharpness and resolution</h2><p class="soft">Of originals, without their copies.</p>'
        f'<div class="pair"><div><h3>Sharpness</h3>{sharpness}{soft}{unmeasured}</div>'
        f"<div><h3>Sources</h3>{bars('megapixels', 'files', facts.megapixels)}</div>"
        f"<div><h3>Enlarged</h3>{bars('times', 'originals', facts.enlarged.bars)}{large}</div></div>"
        f"{_worst(facts.sharpness, gallery, 'sharpness {:.2f}', 'The softest')}"
        f"{_worst(facts.enlarged, gallery, 'enlarged {:.2f} times', 'The most enlarged')}</section>"
    )


def _worst(scale: Distribution, gallery: Gallery, words: str, heading: str = "") -> str:
    shown = row([(one, words.format(value)) for one, value in scale.worst], gallery)
    return f"<h3>{heading}</h3>{shown}" if heading and shown else shown
