"""A report's HTML, read back: elements, their text, and tables by caption."""

from html.parser import HTMLParser
from pathlib import Path

from crescent.report import write_report

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Element:
    """An HTML element, as far as a test asks about it."""

    def __init__(self, name: str, attributes: dict[str, str], parent: "Element | None") -> None:
        self.name, self.attributes, self.parent = name, attributes, parent
        self.children: list[Element] = []
        self.words: list[str] = []

    def all(self, *names: str) -> list["Element"]:
        found = [element for child in self.children for element in child.all(*names)]
        return [*([self] if not names or self.name in names else []), *found]

    @property
    def text(self) -> str:
        return " ".join(" ".join([*self.words, *(element.text for element in self.children)]).split())


class PageParser(HTMLParser):
    """Builds elements; every element must be closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.root = self.here = Element("", {}, None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        new = Element(tag, {name: value or "" for name, value in attrs}, self.here)
        self.here.children.append(new)
        if tag not in VOID:
            self.here = new

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.here.children.append(Element(tag, {name: value or "" for name, value in attrs}, self.here))

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.here.name, f"</{tag}> inside <{self.here.name}>"
        assert self.here.parent is not None
        self.here = self.here.parent

    def handle_data(self, data: str) -> None:
        self.here.words.append(data)


def read_page(path: Path) -> Element:
    reader = PageParser()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.here is reader.root, f"<{reader.here.name}> is not closed"
    return reader.root


def report_of(*roots: Path, rate: float | None = None) -> Element:
    output = roots[0].parent / "report.html"
    write_report(roots, output, rate)
    return read_page(output)


def table(page: Element, caption: str) -> list[list[str]]:
    """The cells of the only table whose caption begins like this, the headings first."""
    found = [element for element in page.all("table") if element.all("caption")[0].text.startswith(caption)]
    assert len(found) == 1, f"{caption}: {len(found)} tables"
    return [[cell.text for cell in row.children] for row in found[0].all("tr")]
