from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PrepError
from pipeline.html.document import HtmlPage, render_document, safe, write_page


class Texts(HTMLParser):
    """The words and the elements that a browser would see."""

    def __init__(self, text):
        super().__init__()
        self.words, self.elements = "", []
        self.feed(text)
        self.close()

    def handle_data(self, data):
        self.words += data

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))


def policy(text):
    return next(a["content"] for name, a in Texts(text).elements if name == "meta" and "http-equiv" in a)


@given(st.text())
def test_words_stay_words_in_elements_and_in_attributes(words):
    seen = Texts(f'<p title="{safe(words)}">{safe(words)}</p>')
    assert [name for name, _ in seen.elements] == ["p"]
    assert seen.elements[0][1]["title"] == seen.words == "".join(c if c.isprintable() else repr(c)[1:-1] for c in words)


def test_a_page_loads_nothing_and_runs_its_own_script_only():
    page = render_document(HtmlPage("prep x", "<T>", "<p>body</p>", script="let a = 1 < 2;"))
    ran = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    own = base64.b64encode(hashlib.sha256(ran.encode()).digest()).decode()
    assert policy(page) == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        f"script-src 'sha256-{own}'"
    )
    assert "<title>&lt;T&gt;</title>" in page
    assert "script-src" not in policy(render_document(HtmlPage("prep x", "T", ""))), "without a script none may run"
    assert "url(" not in page and "@import" not in page


def test_only_a_page_of_the_same_command_is_written_over(tmp_path):
    path = tmp_path / "page.html"
    write_page(path, HtmlPage("prep report", "one", "1"))
    write_page(path, HtmlPage("prep report", "two", "2"))
    assert "two" in path.read_text()
    with pytest.raises(PrepError) as told:
        write_page(path, HtmlPage("prep compare", "three", "3"))
    assert told.value.wrong == f"{path} is not a page that prep compare wrote, so it stays."
    assert "two" in path.read_text()
    with pytest.raises(PrepError, match="is a folder"):
        write_page(tmp_path, HtmlPage("prep report", "", ""))
    with pytest.raises(PrepError, match="does not exist"):
        write_page(tmp_path / "no" / "page.html", HtmlPage("prep report", "", ""))
