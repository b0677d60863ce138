from __future__ import annotations

import base64
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import DictLoader, UndefinedError

from pipeline.errors import PrepError
from pipeline.html.document import HtmlPage, environment, render_document, write_page
from tests.html_reader import HtmlReader

TEMPLATES = DictLoader(
    {
        "page": "{% extends 'document.html.jinja' %}{% block body %}<p>{{ words }}</p>{% endblock %}",
        "style.css": ".a > .b { color: red }",
        "script.js": "let a = 1 < 2 && '{{ words }}';",
    }
)


def page(command, words="", **files):
    return HtmlPage(command, "<T>", TEMPLATES, "page", {"words": words}, **files)


@given(st.text())
def test_text_stays_text_in_elements_and_in_attributes(words):
    template = environment(TEMPLATES).from_string('<p title="{{ words }}">{{ words }}</p>')
    seen = HtmlReader(template.render(words=words))
    assert [name for name, _ in seen.elements] == ["p"]
    assert seen.elements[0][1]["title"] == seen.text == "".join(c if c.isprintable() else repr(c)[1:-1] for c in words)


def test_an_undefined_name_fails():
    with pytest.raises(UndefinedError):
        environment(TEMPLATES).from_string("{{ missing }}").render()


def test_numbers_and_quantities():
    template = environment(TEMPLATES).from_string(
        "{{ 1200|thousands }} {{ 1|quantity('image') }} {{ 2|quantity('class', 'classes') }} {{ 0.125|percent(1) }}"
    )
    assert template.render() == "1,200 1 image 2 classes 12.5%"


def test_a_page_loads_nothing_and_runs_its_own_script_only():
    html = render_document(page("prep x", "a & b", style="style.css", script="script.js"))
    script = re.search(r"<script>(.*?)</script>", html, re.DOTALL)[1]
    assert script == "let a = 1 < 2 && '{{ words }}';", "a script is no template"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert HtmlReader(html).policy() == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        f"script-src 'sha256-{digest}'"
    )
    assert "<title>&lt;T&gt;</title>" in html and "<p>a &amp; b</p>" in html and ".a > .b { color: red }" in html
    assert "script-src" not in HtmlReader(render_document(page("prep x"))).policy(), "without a script none may run"
    assert "url(" not in html and "@import" not in html


def test_only_a_page_of_the_same_command_is_overwritten(tmp_path):
    path = tmp_path / "page.html"
    write_page(path, page("prep report", "one"))
    write_page(path, page("prep report", "two"))
    assert "two" in path.read_text()
    with pytest.raises(PrepError, match="not written by prep compare"):
        write_page(path, page("prep compare", "three"))
    assert "two" in path.read_text()
    with pytest.raises(PrepError, match="is a folder"):
        write_page(tmp_path, page("prep report"))
    with pytest.raises(PrepError, match="does not exist"):
        write_page(tmp_path / "no" / "page.html", page("prep report"))
