"""The built site on a wide and on a narrow screen. It skips without the site (`make docs`) or without Chromium."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Page, open_page

SITE = Path(__file__).parent.parent / "build" / "site"
PAGES = sorted(SITE.glob("*.html"))
WIDTHS = (1440, 390)

LOAD_PICTURES = """
Promise.all([...document.images].map(image => {
  image.loading = "eager";
  return image.decode().catch(() => 0);
}))
"""
MISSING_PICTURES = "[...document.images].filter(image => !image.naturalWidth).map(image => image.src)"
OVERHANG = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_page(tmp_path_factory.mktemp("site")) as opened:
        yield opened


@pytest.mark.skipif(not PAGES, reason="needs the site: make docs")
@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_a_page_of_the_site_does_not_scroll_sideways_and_misses_no_picture(file: Path, page: Page) -> None:
    for width in WIDTHS:
        page.open(file, width)
        page.evaluate(f"{LOAD_PICTURES}.then(() => null)")
        assert page.evaluate(MISSING_PICTURES) == []
        assert page.evaluate(OVERHANG) <= 0, f"{width} pixels wide"


def test_what_is_too_wide_or_missing_is_found(page: Page, tmp_path: Path) -> None:
    """The same expressions, on a page with both faults."""
    file = tmp_path / "wide.html"
    file.write_text('<div style="width: 500px">wide</div><img src="gone.png" loading="lazy">')
    page.open(file, 390)
    page.evaluate(f"{LOAD_PICTURES}.then(() => null)")
    assert page.evaluate(OVERHANG) > 100
    assert [Path(source).name for source in page.evaluate(MISSING_PICTURES)] == ["gone.png"]
