"""Every import of the package's own names leads somewhere, without importing what is heavy."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "persyn_ray"


@cache
def names_of(module: str) -> frozenset[str] | None:
    """What a module of the package binds anywhere, with its submodules; None without such a one."""
    place = ROOT.joinpath(*module.split("."))
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    if not file.exists():
        return None
    names = {one.stem for one in place.iterdir()} if place.is_dir() else set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Name(ctx=ast.Store()):
                names.add(node.id)
            case ast.Import() | ast.ImportFrom():
                names.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
            case _:
                pass
    return frozenset(names)


def broken_in(text: str) -> list[str]:
    """Imports of the package in a program that lead nowhere."""
    broken = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            wanted = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            wanted = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        for module, name in wanted:
            if module.split(".")[0] != PACKAGE.name:
                continue
            names = names_of(module)
            lazy = names is not None and "__getattr__" in names
            if names is None or (name is not None and name not in names and not lazy):
                broken.append(f"{module}: {name}" if name else module)
    return broken


@pytest.mark.parametrize("folder", ["persyn_ray", "tests", "examples", "benchmarks", "docs"])
def test_every_import_of_the_package_leads_somewhere(folder: str) -> None:
    found = {
        str(file.relative_to(ROOT)): broken
        for file in sorted((ROOT / folder).rglob("*.py"))
        if (broken := broken_in(file.read_text(encoding="utf-8")))
    }
    assert not found


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("from persyn_ray.report import numbers", []),
        ("from persyn_ray.report.numbers import count", []),
        ("from persyn_ray.report.numbers import counts", ["persyn_ray.report.numbers: counts"]),
        ("import persyn_ray.report.number", ["persyn_ray.report.number"]),
        ("def f():\n    from persyn_ray.gone import x", ["persyn_ray.gone: x"]),
        ("import numpy.gone", []),
    ],
)
def test_an_import_that_leads_nowhere_is_found(text: str, broken: list[str]) -> None:
    assert broken_in(text) == broken
