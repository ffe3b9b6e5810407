"""The glossary names what exists, and no public name uses a word that it replaces."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS = [
    [cell.strip() for cell in line.strip().strip("|").split("|")]
    for line in (ROOT / "docs/glossary.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| Term")
]
MODULES = sorted((ROOT / "persyn_ray").rglob("*.py"))


def public_names() -> dict[str, Path]:
    """Folders, modules, classes, functions, methods and fields, each with a file that has it."""
    found: dict[str, Path] = {}
    for path in MODULES:
        inside = path.relative_to(ROOT / "persyn_ray")
        found |= dict.fromkeys([*inside.parts[:-1], path.stem], path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found[node.name] = path
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[node.target.id] = path
    return {name: path for name, path in found.items() if not name.startswith("_")}


def words(name: str) -> set[str]:
    """The words of a name in any case, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def test_every_name_of_the_glossary_exists() -> None:
    names = public_names()
    named = [name for row in ROWS for name in re.findall(r"`(\w+)`", row[-2])]
    assert len(named) > 30
    assert [name for name in named if name not in names] == []


def test_no_public_name_uses_a_word_that_the_glossary_replaces() -> None:
    replaced = {word.strip() for row in ROWS for word in row[-1].split(",")}
    assert {"crew", "gate", "tally", "bury", "boldness"} <= replaced
    wrong = {name: str(path) for name, path in public_names().items() if words(name) & replaced}
    assert wrong == {}
