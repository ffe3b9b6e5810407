"""The site builds without a warning, loads nothing from elsewhere, and has what it promises."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel

from persyn_ray.cli.main import app
from persyn_ray.recipe.recipe import Recipe

from .blocks import ROOT, pages

sys.path.insert(0, str(ROOT / "docs" / "hooks"))
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "srcset"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", out],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return out


class Loads(HTMLParser):
    """Addresses that a page loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") in ("canonical", "next", "prev", "alternate"):
            return
        if address := given.get(LOADED.get(tag, "")):
            self.found.append(address)


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    built = sorted(site.rglob("*.html"))
    assert len(built) > 20
    for page in built:
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        assert loads.found
        assert [one for one in loads.found if re.match(r"(https?:)?//", one)] == [], page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text(encoding="utf-8"))


def fields(kind: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[tuple[str, str]]:
    """Every setting of a recipe with what its docstring says; found apart from the hook."""
    if kind in seen:
        return
    seen.add(kind)
    for name, field in kind.model_fields.items():
        yield name, field.description or ""
        for inner in re.findall(r"persyn_ray\.recipe\.(\w+)\.(\w+)", repr(field.annotation)):
            module = __import__(f"persyn_ray.recipe.{inner[0]}", fromlist=[inner[1]])
            yield from fields(getattr(module, inner[1]), seen)


def words(text: str) -> str:
    return re.sub(r"\W+", " ", text)


def test_the_recipe_page_has_every_field_and_its_docstring(site: Path) -> None:
    class Text(HTMLParser):
        told = ""

        def handle_data(self, data: str) -> None:
            self.told += data

    reader = Text()
    reader.feed((site / "recipe.html").read_text(encoding="utf-8"))
    page = words(reader.told)
    found = list(fields(Recipe, set()))
    assert len(found) > 150
    assert [name for name, told in found if words(told).strip() not in page] == []
    assert [name for name, _ in found if not re.search(rf"\b{name}\b", page)] == []


def test_the_command_page_has_every_command(site: Path) -> None:
    page = (site / "commands.html").read_text(encoding="utf-8")
    for name in typer.main.get_command(app).commands:
        assert f"persyn {name}" in page


def test_tables_of_figures_are_those_of_the_results() -> None:
    from result_tables import filled

    marked = 0
    for page in pages():
        text = page.read_text(encoding="utf-8")
        marked += text.count("<!-- table ")
        assert filled(text) == text, f"{page}: run `python docs/hooks/result_tables.py`"
    assert marked >= 5


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", text) + re.findall(r'src="([^"]+)"', text)
    assert len(targets) > 20
    for target in targets:
        if not target.startswith("https://"):
            assert (ROOT / target).exists(), target
