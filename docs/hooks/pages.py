"""What mkdocs does beyond Markdown: pages that lie beside docs/, pictures drawn into the page, the list of settings.

mkdocs calls the functions by their names (`hooks` in mkdocs.yml).
"""

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import settings_page

ROOT = Path(__file__).parent.parent.parent
BESIDE_DOCS = {"RESULTS.md": "results.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Files at the top of the repository, and the names of their pages."""
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")
FETCHED = re.compile(r"""<(?:script|img|iframe|source)[^>]*\ssrc="?https?:[^>]*>|<link[^>]*\shref="?https?:[^>]*>""")
"""Matches what a browser would fetch from elsewhere. Links that a reader may follow are none of it."""
PICTURE = re.compile(r"!\[([^\]]*)\]\((images/[\w-]+\.svg)\)")


def on_config(config: Any) -> Any:
    """Search of a page opened from a file: with our own script, where the theme would fetch one from unpkg.com."""
    config.extra["polyfills"] = ["search_from_a_file.js"]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from the top of the repository."""
    from mkdocs.structure.files import File

    for name, page in BESIDE_DOCS.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """A page as it stands in the repository, with links, pictures and settings as the site needs them."""
    name = page.file.src_uri
    if page.parent is None:  # alone in its tab: the list of pages beside it would only repeat its name
        page.meta["hide"] = ["navigation"]
    if name == "settings.md":
        markdown = markdown.replace(settings_page.MARK, settings_page.settings())
    markdown = LINK.sub(lambda link: f"]({target(link[1], name)}{link[2] or ''})", markdown)
    return PICTURE.sub(lambda picture: drawn(picture[1], ROOT / "docs" / picture[2]), markdown)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Refuse a page that fetches something from elsewhere: the site is read without a network."""
    from mkdocs.exceptions import PluginError

    if found := FETCHED.search(output):
        raise PluginError(f"{page.file.src_uri}: fetches from elsewhere: {found[0]}")
    return output


def target(link: str, page: str) -> str:
    """Where a link of the repository leads on the site: both have other folders for the pages beside docs/."""
    if page in BESIDE_DOCS.values():
        link = link.removeprefix("docs/") if link.startswith("docs/") else f"../{link}"
    return BESIDE_DOCS.get(link.removeprefix("../"), link)


def drawn(title: str, path: Path) -> str:
    """The picture as a part of the page, so that it can be searched and needs no request."""
    svg = re.sub(r"<\?xml.*?\?>|<!--.*?-->|\n\s*", "", path.read_text(), flags=re.DOTALL)
    return f'<figure class="drawn" aria-label="{title}">{svg}</figure>'
