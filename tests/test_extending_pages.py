"""The examples of the READMEs of pipeline/html, report and review: a page, a section and a key that are added work."""

from __future__ import annotations

import asyncio
import re
import textwrap
from pathlib import Path
from types import SimpleNamespace

from jinja2 import ChoiceLoader, DictLoader, PackageLoader
from textual.binding import Binding

from pipeline.html.document import HtmlPage, environment, write_page
from pipeline.report.page import Section
from pipeline.review.app import ReviewApp
from pipeline.review.state import Review
from pipeline.review.terminal_image import TerminalGraphics
from tests.html_reader import HtmlReader
from tests.review_set import review_set

ROOT = Path(__file__).resolve().parent.parent


def examples(package, language):
    text = (ROOT / "pipeline" / package / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for block in blocks]


def test_a_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (template,), (code,) = examples("html", "jinja"), examples("html", "python")
    files = DictLoader({"sizes.html.jinja": template, "sizes.css": "p { color: red }"})
    exec(code, {"HtmlPage": HtmlPage, "write_page": write_page, "Path": Path, "PackageLoader": lambda package: files})
    text = HtmlReader((tmp_path / "sizes.html").read_text()).text
    assert "Sizes" in text and "12 images" in text


def test_a_section_of_the_report():
    (template,) = examples("report", "jinja")
    _, line = examples("report", "python")
    section = eval(line.rstrip().rstrip(","), {"Section": Section})
    files = ChoiceLoader([DictLoader({"section": template}), PackageLoader("pipeline.report")])
    data = SimpleNamespace(taggers={"wd14:<b>": 1200})
    assert section.has_content(data) and not section.has_content(SimpleNamespace(taggers={}))
    html = environment(files).get_template("section").render(data=data)
    assert "wd14:<b>" in HtmlReader(html).text and "1,200" in html and "<b>" not in html


def test_a_key_of_the_review(tmp_path):
    binding, action = examples("review", "python")
    members = {}
    exec(action, {}, members)
    bindings = eval(f"[{binding}]", {"Binding": Binding})
    extended = type("Extended", (ReviewApp,), {"BINDINGS": bindings, "CSS": ReviewApp.CSS, **members})

    async def main():
        app = extended(Review.open(review_set(tmp_path)), TerminalGraphics("blocks"))
        async with app.run_test() as pilot:
            await pilot.press("c")
            assert app.clipboard == app.review.composed(app.review.record).caption != ""

    asyncio.run(main())
