"""The page of prep compare: one HTML file with the pictures in it, that needs no network and runs no script."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable
from pathlib import Path

from pipeline.commands.compare import MARKS, Row, Sheet, counts, measure, number, passes
from pipeline.errors import PrepError
from pipeline.imaging.decode import DAMAGE
from pipeline.imaging.picture import load_rgb
from pipeline.spelling import printable, spell
from pipeline.workspace import Workspace, write_atomic

_MARKER = "<!-- made by prep compare -->"
_SIDE = 448  # pixels: the longer side of a picture on the page, twice what is shown for sharp screens

_STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf8; --ink: #24272b; --soft: #6b7078; --line: #e2e0db;
  --all: #1f7a4d; --one: #9a5b13; --bar: #24272b14; }
@media (prefers-color-scheme: dark) { :root { --paper: #17191c; --ink: #e4e3df; --soft: #969ba3; --line: #2e3136;
  --all: #6cc596; --one: #dba55c; --bar: #e4e3df1c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 3rem 2rem 6rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 1.5rem; font-weight: 600; margin: 0 0 .25rem; }
h2 { font-size: 1rem; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
p { margin: .25rem 0; }
.soft, th, .category, figcaption { color: var(--soft); }
.key > span { margin-right: 1.25rem; white-space: nowrap; }
.key .mark { margin-right: .4rem; }
article { display: grid; grid-template-columns: 14rem minmax(0, 1fr); gap: 2rem; padding: 2rem 0;
  border-top: 1px solid var(--line); margin-top: 2rem; }
article + article { margin-top: 0; }
figure { margin: 0; position: sticky; top: 1.5rem; align-self: start; }
img, .gone { width: 100%; height: auto; border-radius: 4px; display: block; }
.gone { padding: 4rem 1rem; border: 1px dashed var(--line); text-align: center; color: var(--soft); }
figcaption { font-size: .8rem; margin-top: .5rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th { font-weight: 400; font-size: .8rem; text-align: left; vertical-align: bottom; overflow-wrap: break-word; }
th, td { padding: .2rem 1rem .2rem 0; border-bottom: 1px solid var(--line); }
th.score, td.score { text-align: right; width: 7rem; min-width: 4.5rem; padding: .2rem .5rem; }
td.score { background: linear-gradient(to left, var(--bar) var(--share), transparent var(--share)); }
td.mark { width: 1.5rem; padding-right: .25rem; }
td.text { overflow-wrap: anywhere; min-width: 10rem; }
.category { font-size: .8rem; }
.all .mark, .all .text { color: var(--all); font-weight: 600; }
.one .mark, .one .text { color: var(--one); }
.low { color: var(--soft); }
blockquote { margin: 1rem 0 0; padding-left: 1rem; border-left: 2px solid var(--line); }
cite { font-style: normal; font-size: .8rem; color: var(--soft); }
.measures { margin-top: 1rem; font-size: .85rem; }
.fault { color: var(--one); }
@media (max-width: 44rem) { body { padding: 1.5rem 1rem; } article { grid-template-columns: minmax(0, 1fr); }
  figure { position: static; max-width: 16rem; } }
@media print { article { break-inside: avoid; } figure { position: static; } }
"""


def write_page(path: Path, sheets: Iterable[Sheet], workspace: Workspace, threshold: float) -> int:
    """Write the page and return its number of pictures; PrepError when `path` holds something else of the user's."""
    if path.is_dir():
        raise PrepError(f"{path} is a folder.", f"Name a file in it: --html {path / 'compare.html'}")
    if not path.parent.is_dir():
        raise PrepError(f"The folder {path.parent} does not exist.", "Make it, or name another place.")
    if path.exists() and _MARKER.encode() not in path.read_bytes()[:300]:
        raise PrepError(f"{path} is not a page that prep wrote, so it stays.", "Name another file.")
    articles = [article(sheet, workspace, threshold) for sheet in sheets]
    write_atomic(path, page(articles, workspace.root.name, threshold).encode())
    return len(articles)


def page(articles: list[str], title: str, threshold: float) -> str:
    """The whole document around some articles."""
    key = "".join(
        f'<span class="{kind}"><span class="mark">{mark}</span>{words}</span>'
        for kind, (mark, words) in MARKS.items()
        if mark
    )
    pictures = "1 picture" if len(articles) == 1 else f"{len(articles):,} pictures"
    return (
        f'<!doctype html>{_MARKER}\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_safe(title)}: taggers compared</title>\n<style>{_STYLE}</style></head>\n<body>\n"
        f'<h1>{_safe(title)}</h1>\n<p class="soft">Taggers compared on {pictures}. A tag counts as said from a score '
        f'of {threshold:g} up; lower scores are grey.</p>\n<p class="key">{key}</p>\n'
        + "\n".join(articles)
        + "\n</body></html>\n"
    )


def article(sheet: Sheet, workspace: Workspace, threshold: float) -> str:
    """One picture with what was said of it."""
    name = _safe(sheet.record.source.rpartition("/")[2])
    parts = [f"<h2>{name}</h2>", f'<p class="soft">{counts(sheet.rows)}</p>' if sheet.rows else ""]
    if sheet.record.drop:
        parts.append(
            f'<p class="one">dropped by {_safe(sheet.record.drop.stage)}: {_safe(sheet.record.drop.reason)}</p>'
        )
    if sheet.rows:
        parts.append(_table(sheet, threshold))
    parts += [f"<blockquote><p>{_safe(a.text)}</p><cite>{_safe(a.by)}</cite></blockquote>" for a in sheet.captions]
    if scored := [measure(a) for a in sheet.measures if a.score is not None]:
        parts.append(f'<p class="soft measures">{_safe(", ".join(scored))}</p>')
    parts += [f'<p class="fault">{_safe(a.text)}</p>' for a in sheet.measures if a.score is None]
    if not (sheet.rows or sheet.captions):
        parts.append('<p class="soft">Nothing was said of it at this threshold.</p>')
    caption = f"<figcaption>{_safe(sheet.record.source)}<br>{_safe(sheet.record.id)}</figcaption>"
    return f"<article><figure>{_image(sheet, workspace)}{caption}</figure>\n<div>{''.join(parts)}</div></article>"


def _table(sheet: Sheet, threshold: float) -> str:
    heads = "".join(f'<th class="score" scope="col">{_safe(by).replace(":", ":<wbr>")}</th>' for by in sheet.voices)
    rows = "\n".join(_line(row, sheet.voices, threshold) for row in sheet.rows)
    head = f'<tr><th></th><th scope="col">tag</th><th scope="col">category</th>{heads}</tr>'
    return f'<div class="scroll"><table><thead>{head}</thead>\n<tbody>{rows}</tbody></table></div>'


def _line(row: Row, voices: tuple[str, ...], threshold: float) -> str:
    mark, words = MARKS[row.agreement]
    cells = "".join(_cell(row, by, threshold) for by in voices)
    return (
        f'<tr class="{row.agreement}"><td class="mark" title="{words}" aria-label="{words}">{mark}</td>'
        f'<td class="text">{_safe(spell(row.text))}</td><td class="category">{_safe(row.category)}</td>{cells}</tr>'
    )


def _cell(row: Row, by: str, threshold: float) -> str:
    if by not in row.scores:
        return '<td class="score low" style="--share: 0%">&middot;</td>'
    score = row.scores[by]
    low = "" if row.kind == "rating" or passes(score, threshold) else " low"
    share = 100 * min(1.0, max(0.0, score or 0.0))
    return f'<td class="score{low}" style="--share: {share:.0f}%">{number(score)}</td>'


def _image(sheet: Sheet, workspace: Workspace) -> str:
    """The picture as a data URI, shrunk; words in its place when it is not there."""
    from PIL import Image

    picture = sheet.record.picture
    if picture is None:
        return '<div class="gone">not cropped</div>'
    try:
        image = Image.fromarray(load_rgb(workspace.path(picture.path)))
    except DAMAGE:
        return '<div class="gone">picture missing</div>'
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    memory = io.BytesIO()
    image.save(memory, "JPEG", quality=82, optimize=True)
    data = base64.b64encode(memory.getvalue()).decode()
    size = f'width="{image.width}" height="{image.height}"'
    return f'<img {size} alt="{_safe(sheet.record.source)}" src="data:image/jpeg;base64,{data}">'


def _safe(text: str) -> str:
    return html.escape(printable(text), quote=True)
