"""A page as one HTML file: escaped, told to load nothing, in the style that all pages share."""

from __future__ import annotations

import base64
import hashlib
import html
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PrepError
from pipeline.tag_text import escape_control
from pipeline.workspace import write_atomic

STYLE = Path(__file__).with_name("page.css")


@dataclass(frozen=True, slots=True)
class HtmlPage:
    """What differs from page to page; `body` is HTML whose words went through `safe`."""

    made_by: str  # the command: 'prep compare'
    title: str
    body: str
    style: str = ""  # rules beside those of page.css
    script: str = ""


def render_document(page: HtmlPage) -> str:
    """The whole page. Its policy lets a browser load nothing at all, and run `script` only, known by its hash."""
    hashed = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    policy += f"; script-src 'sha256-{hashed}'" if page.script else ""
    style = STYLE.read_text(encoding="utf-8") + page.style
    return (
        f'<!doctype html>{_marker(page.made_by)}\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{safe(page.title)}</title>\n<style>\n{style}</style></head>\n<body>\n{page.body}\n"
        + (f"<script>{page.script}</script>\n" if page.script else "")
        + "</body></html>\n"
    )


def check_overwrite(path: Path, made_by: str) -> None:
    """PrepError when a page cannot lie at `path`, or something does that prep did not write."""
    if path.is_dir():
        raise PrepError(f"{path} is a folder.", f"Name a file in it: --html {path / (made_by.split()[-1] + '.html')}")
    if not path.parent.is_dir():
        raise PrepError(f"The folder {path.parent} does not exist.", "Make it, or name another place.")
    if path.exists() and _marker(made_by).encode() not in path.read_bytes()[:300]:
        raise PrepError(f"{path} is not a page that {made_by} wrote, so it stays.", "Name another file.")


def write_page(path: Path, page: HtmlPage) -> None:
    """Write the page, whole or not at all, over an older one of the same command only."""
    check_overwrite(path, page.made_by)
    write_atomic(path, render_document(page).encode())


def safe(text: str) -> str:
    """Words as HTML: names and captions may hold anything, and stay words, in elements and in attributes."""
    return html.escape(escape_control(text), quote=True)


def _marker(made_by: str) -> str:
    return f"<!-- made by {made_by} -->"
