"""The page of prep report: one HTML file that loads nothing; its small script filters and sorts the contact sheet."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from pipeline.html.document import HtmlPage, safe
from pipeline.report.facts import ReportData
from pipeline.report.gallery import Gallery
from pipeline.report.image_rows import alike, images, seen
from pipeline.report.provenance import drops, history
from pipeline.report.sections import captions, overview, quality, sizes, subjects, tags

MADE_BY = "prep report"
_HERE = Path(__file__).parent
_SECTIONS: tuple[Callable[[ReportData, Gallery], str], ...] = (
    overview,
    images,
    tags,
    subjects,
    captions,
    sizes,
    quality,
    alike,
    seen,
    drops,
    history,
)


def page(facts: ReportData, gallery: Gallery) -> HtmlPage:
    """The page; sections about what the set does not have yet are left out."""
    made = [section for write in _SECTIONS if (section := write(facts, gallery))]
    links = "".join(
        f'<a href="#{found[1]}">{found[2]}</a>'
        for section in made
        if (found := re.match(r'<section id="(\w+)"><h2>([^<]+)</h2>', section))
    )
    body = (
        f'<header><h1>{safe(facts.title)}</h1><p class="soft">The set after {safe(facts.stage)}</p></header>\n'
        f'<nav aria-label="Sections">{links}</nav>\n<main>\n' + "\n".join(made) + "\n</main>"
    )
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    return HtmlPage(MADE_BY, f"{facts.title}: the set after {facts.stage}", body, style, script)
