"""Pages of the site that are made when it is built: from the code, and from files outside docs/.

MkDocs calls `on_files` and `on_page_markdown`. Where a page of docs/ links to a file outside it
(right for who reads it in a checkout), the site links to the page made of that file, or names the
file where there is none.
"""

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))

from command_reference import command_reference
from recipe_reference import recipe_reference

ROOT = Path(__file__).parents[2]
OUTSIDE = {
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "cluster/README.md": "cluster_guide.md",
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
PLACES = {
    "recipe.md": ("<!-- fields -->", recipe_reference),
    "commands.md": ("<!-- commands -->", command_reference),
}


def on_files(files: Files, config: Any) -> Files:
    """Add a page for each file outside docs/ that belongs to the documentation."""
    for source, page in OUTSIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=turn_links(text, source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in what is made from the code, and turn links out of docs/."""
    name = page.file.src_uri
    if name in PLACES:
        mark, make = PLACES[name]
        if mark not in markdown:
            raise ValueError(f"docs/{name} lacks {mark}, where the reference goes.")
        markdown = markdown.replace(mark, make())
    return markdown if name in OUTSIDE.values() else turn_links(markdown, f"docs/{name}")


def turn_links(text: str, source: str) -> str:
    """Links of a file of the repository as links between pages of the site."""
    folder = posixpath.dirname(source)

    def turned(link: re.Match[str]) -> str:
        picture, words, target, anchor = link.groups()
        if picture or ":" in target:
            return link[0]
        place = posixpath.normpath(posixpath.join(folder, target))
        if place in OUTSIDE:
            return f"[{words}]({OUTSIDE[place]}{anchor or ''})"
        if place.startswith("docs/"):
            return f"[{words}]({place.removeprefix('docs/')}{anchor or ''})"
        return words if words.strip("`") == place else f"{words} (`{place}`)"

    return LINK.sub(turned, text)
