"""Renders HTML pages from Jinja templates: one self-contained file each, with a policy that loads nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PrepError
from pipeline.tag_text import escape_control
from pipeline.workspace import write_atomic

if TYPE_CHECKING:
    from jinja2 import BaseLoader, Environment


@dataclass(frozen=True, slots=True)
class HtmlPage:
    """One page: a template with its data, and the style and script it includes."""

    command: str  # that writes it, as 'prep compare'
    title: str
    templates: BaseLoader  # where the files below are found
    template: str  # extends document.html.jinja
    data: Mapping[str, Any]
    style: str = ""  # CSS file added to page.css
    script: str = ""  # JavaScript file; the only script that the page may run


def environment(templates: BaseLoader) -> Environment:
    """The Jinja environment of all pages: escapes every value, and fails on an undefined name."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=ChoiceLoader([templates, PackageLoader("pipeline.html")]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(thousands=thousands, percent=percent, quantity=quantity)
    return made


def render_document(page: HtmlPage) -> str:
    """The page as HTML. Its content security policy allows no request, and only `script`, by its hash."""
    from markupsafe import Markup

    made = environment(page.templates)
    assert made.loader is not None

    def source(name: str) -> str:
        return made.loader.get_source(made, name)[0] if name and made.loader else ""

    script = source(page.script)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    policy += f"; script-src 'sha256-{digest}'" if script else ""
    return made.get_template(page.template).render(
        page.data,
        marker=Markup(_marker(page.command)),
        policy=policy,
        title=page.title,
        style=Markup(source("page.css") + source(page.style)),
        script=Markup(script),
    )


def check_overwrite(path: Path, command: str) -> None:
    """PrepError unless a page of `command` may be written to `path`: nothing is there, or an older page of it."""
    if path.is_dir():
        raise PrepError(f"{path} is a folder.", f"Name a file in it: --html {path / (command.split()[-1] + '.html')}")
    if not path.parent.is_dir():
        raise PrepError(f"The folder {path.parent} does not exist.", f"mkdir -p {path.parent}")
    if path.exists() and _marker(command).encode() not in path.read_bytes()[:300]:
        raise PrepError(
            f"{path} was not written by {command}, so it is not overwritten.", f"{command} --html OTHER.html"
        )


def write_page(path: Path, page: HtmlPage) -> None:
    """Write the page atomically, over an older page of the same command only."""
    check_overwrite(path, page.command)
    write_atomic(path, render_document(page).encode())


def thousands(value: int) -> str:
    """'1,200'."""
    return f"{value:,}"


def percent(value: float, digits: int = 0) -> str:
    """'12%' of 0.12."""
    return f"{value:.{digits}%}"


def quantity(value: int, singular: str, plural: str = "") -> str:
    """'1 image', '1,200 images'."""
    return f"{value:,} {singular if value == 1 else plural or singular + 's'}"


def _printable(value: Any) -> Any:
    """Control characters in names and captions as escapes; markup and numbers as they are."""
    return escape_control(value) if type(value) is str else value


def _marker(command: str) -> str:
    return f"<!-- made by {command} -->"
