"""The page of prep compare: one HTML file with the images in it, that needs no network and runs no script."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline.html import document
from pipeline.html.document import HtmlPage, safe
from pipeline.html.thumbnails import framed, thumbnail
from pipeline.report.compare import MARKS, ComparedTag, Comparison, counts, measure, number
from pipeline.tag_text import format_tag
from pipeline.workspace import Workspace

_MADE_BY = "prep compare"
_SIDE = 448  # pixels: the longer side of an image on the page, twice what is shown for sharp screens

_STYLE = """article { display: grid; grid-template-columns: 14rem minmax(0, 1fr); gap: 2rem; padding: 2rem 0;
  border-top: 1px solid var(--line); margin-top: 2rem; }
article + article { margin-top: 0; }
article figure { position: sticky; top: 1.5rem; align-self: start; }
.key > span { margin-right: 1.25rem; white-space: nowrap; }
.key .mark { margin-right: .4rem; }
th.score, td.score { text-align: right; width: 7rem; min-width: 4.5rem; padding: .2rem .5rem; }
td.score { background: linear-gradient(to left, var(--fill) var(--share), transparent var(--share)); }
td.mark { width: 1.5rem; padding-right: .25rem; }
.category { font-size: .8rem; color: var(--soft); }
.all .mark, .all .text { color: var(--good); font-weight: 600; }
.one .mark, .one .text { color: var(--warn); }
.low { color: var(--soft); }
blockquote { margin: 1rem 0 0; padding-left: 1rem; border-left: 2px solid var(--line); }
cite { font-style: normal; font-size: .8rem; color: var(--soft); }
.measures { margin-top: 1rem; font-size: .85rem; }
.fault { color: var(--warn); }
@media (max-width: 44rem) { article { grid-template-columns: minmax(0, 1fr); }
  article figure { position: static; max-width: 16rem; } }
@media print { article { break-inside: avoid; } article figure { position: static; } }
"""


def write_page(path: Path, sheets: Iterable[Comparison], workspace: Workspace, words: str) -> int:
    """Write the page and return its number of images; PrepError when `path` holds something else of the user's."""
    document.check_overwrite(path, _MADE_BY)
    articles = [article(sheet, workspace) for sheet in sheets]
    document.write_page(path, page(articles, workspace.root.name, words))
    return len(articles)


def page(articles: list[str], title: str, words: str) -> HtmlPage:
    """The whole page around some articles; `words` are what a score must reach to count."""
    key = "".join(
        f'<span class="{kind}"><span class="mark">{mark}</span>{words}</span>'
        for kind, (mark, words) in MARKS.items()
        if mark
    )
    images = "1 image" if len(articles) == 1 else f"{len(articles):,} images"
    head = (
        f'<h1>{safe(title)}</h1>\n<p class="soft">Taggers compared on {images}. A tag counts as said from '
        f'{safe(words)} up; lower scores are grey.</p>\n<p class="key">{key}</p>'
    )
    return HtmlPage(_MADE_BY, f"{title}: taggers compared", "\n".join([head, *articles]), _STYLE)


def article(sheet: Comparison, workspace: Workspace) -> str:
    """One image with what was said of it."""
    name = safe(sheet.record.source.rpartition("/")[2])
    parts = [f"<h2>{name}</h2>", f'<p class="soft">{counts(sheet.rows)}</p>' if sheet.rows else ""]
    if sheet.record.drop:
        parts.append(f'<p class="one">dropped by {safe(sheet.record.drop.stage)}: {safe(sheet.record.drop.reason)}</p>')
    if sheet.rows:
        parts.append(_table(sheet))
    parts += [f"<blockquote><p>{safe(a.text)}</p><cite>{safe(a.tagger)}</cite></blockquote>" for a in sheet.captions]
    if scored := [measure(a) for a in sheet.measures if a.score is not None]:
        parts.append(f'<p class="soft measures">{safe(", ".join(scored))}</p>')
    parts += [f'<p class="fault">{safe(a.text)}</p>' for a in sheet.measures if a.score is None]
    if not (sheet.rows or sheet.captions):
        parts.append('<p class="soft">Nothing was said of it at this threshold.</p>')
    caption = f"<figcaption>{safe(sheet.record.source)}<br>{safe(sheet.record.id)}</figcaption>"
    return f"<article><figure>{_image(sheet, workspace)}{caption}</figure>\n<div>{''.join(parts)}</div></article>"


def _table(sheet: Comparison) -> str:
    heads = "".join(f'<th class="score" scope="col">{safe(by).replace(":", ":<wbr>")}</th>' for by in sheet.taggers)
    rows = "\n".join(_line(row, sheet.taggers) for row in sheet.rows)
    head = f'<tr><th></th><th scope="col">tag</th><th scope="col">category</th>{heads}</tr>'
    return f'<div class="scroll"><table><thead>{head}</thead>\n<tbody>{rows}</tbody></table></div>'


def _line(row: ComparedTag, voices: tuple[str, ...]) -> str:
    mark, words = MARKS[row.agreement]
    cells = "".join(_cell(row, by) for by in voices)
    return (
        f'<tr class="{row.agreement}"><td class="mark" title="{words}" aria-label="{words}">{mark}</td>'
        f'<td class="text">{safe(format_tag(row.text))}</td><td class="category">{safe(row.category)}</td>{cells}</tr>'
    )


def _cell(row: ComparedTag, by: str) -> str:
    if by not in row.scores:
        return '<td class="score low" style="--share: 0%">&middot;</td>'
    score = row.scores[by]
    low = "" if by in row.predicted else " low"
    share = 100 * min(1.0, max(0.0, score or 0.0))
    return f'<td class="score{low}" style="--share: {share:.0f}%">{number(score)}</td>'


def _image(sheet: Comparison, workspace: Workspace) -> str:
    image = sheet.record.image
    return framed(thumbnail(image, workspace, _SIDE) if image else None, image, sheet.record.source)
