"""Facts from an HTML page, by the standard library's parser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "wbr", "img", "input", "hr", "rect", "circle", "line", "path", "image"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text within, whitespace made single."""
        parts = (
            child if isinstance(child, str) else f" {child.text} " if child.tag in BREAKS else child.text
            for child in self.children
        )
        joined = "".join(parts)
        return " ".join(joined.split())

    def walk(self) -> Iterator[Element]:
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.walk()

    def all(self, tag: str, kind: str = "", **attributes: str) -> list[Element]:
        """Elements of a tag, with a class and with attributes."""
        return [
            found
            for found in self.walk()
            if found.tag == tag
            and (not kind or kind in found.attributes.get("class", "").split())
            and all(found.attributes.get(name) == value for name, value in attributes.items())
        ]

    def one(self, tag: str, kind: str = "", **attributes: str) -> Element:
        found = self.all(tag, kind, **attributes)
        assert len(found) == 1, f"{len(found)} of {tag}.{kind} {attributes}"
        return found[0]


BREAKS = {"p", "li", "td", "th", "tr", "h1", "h2", "h3", "div", "dt", "dd", "span", "option", "figcaption", "text"}


class Reader(HTMLParser):
    """Builds the tree and refuses tags that do not close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Element("document", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}> at {self.getpos()}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read_html(page: str) -> Element:
    """The page as a tree."""
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert len(reader.open) == 1, f"<{reader.open[-1].tag}> is never closed"
    return reader.root


def table_rows(table: Element) -> list[list[str]]:
    """A table's rows as text, the headings first."""
    return [[cell.text for cell in row.walk() if cell.tag in ("th", "td")] for row in table.all("tr")]
