"""Reads HTML as a browser does: elements with their attributes, and the text."""

from __future__ import annotations

from html.parser import HTMLParser

_VOID = ("meta", "img", "br", "wbr", "input")  # elements without an end tag


class HtmlReader(HTMLParser):
    """The elements and the text of a document; fails unless every element that is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def having(self, attribute: str, value: str) -> list[dict[str, str | None]]:
        """The attributes of all elements in which one attribute has a value."""
        return [attributes for _, attributes in self.elements if attributes.get(attribute) == value]

    def policy(self) -> str | None:
        """The content security policy."""
        return next(a["content"] for name, a in self.elements if name == "meta" and "http-equiv" in a)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
