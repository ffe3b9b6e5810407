"""Texts name settings that exist: every `section.key` in a message leads somewhere in a recipe."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.scoring import JudgeConfig
from persyn_ray.recipe.teachers import TeacherConfig

PACKAGE = Path(__file__).parents[1] / "persyn_ray"
SECTIONS = {path.stem for path in (PACKAGE / "recipe").glob("*.py")}
"""Files whose docstrings are the settings' own documentation."""
ROOTS = (Recipe, TeacherConfig, JudgeConfig)  # messages about one teacher leave `teachers.N` out
HEADS = sorted({name for root in ROOTS for name in root.model_fields})
SETTING = re.compile(rf"(?<![\w./@$-])(?:{'|'.join(HEADS)})(?:\.(?:[a-z_]+|[A-Z]+|\d+))+(?![\w/(])")
PLACEHOLDERS = {"serving.key"}  # of `serving.key=value`
FILES = re.compile(r"\.(?:json|jsonl|parquet|html|md|yaml|py)$")


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Models of a field, also within unions, tuples and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


def exists(path: str) -> bool:
    """Whether a dotted path leads to a setting from any of the roots."""
    return any(_leads(root, path.split(".")) for root in ROOTS)


def _leads(model: type[BaseModel], parts: list[str]) -> bool:
    head, rest = parts[0], parts[1:]
    if head not in model.model_fields:
        return False
    annotation = model.model_fields[head].annotation
    shape = str(annotation)
    if rest and re.fullmatch(r"[A-Z]+|\d+", rest[0]) and ("tuple" in shape or "dict" in shape):
        rest = rest[1:]  # a position, or a name
    if not rest:
        return True
    if "dict[str, typing.Any]" in shape:
        return True
    return any(_leads(inner, rest) for inner in models_in(annotation))


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """Texts with blanks in them that people may read, with their lines."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        pattern = r"<code>([^<]*)</code>" if path.suffix == ".html" else r"`([^`]*)`"
        yield from ((0, found) for found in re.findall(pattern, text) if "{{" not in found)
        return
    tree = ast.parse(text)
    docs = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_read = node not in docs or path.stem in SECTIONS
            if is_read and " " in node.value:
                yield node.lineno, node.value


def named() -> list[tuple[str, str]]:
    files = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.html"), *PACKAGE.rglob("*.md")]
    return sorted(
        (f"{path.relative_to(PACKAGE)}:{line}", setting)
        for path in files
        for line, text in sentences(path)
        for setting in SETTING.findall(text)
        if setting not in PLACEHOLDERS and not FILES.search(setting)
    )


def test_the_texts_name_many_settings() -> None:
    assert len(named()) > 80


def test_every_setting_that_a_text_names_exists() -> None:
    assert [f"{where} {setting}" for where, setting in named() if not exists(setting)] == []


@pytest.mark.parametrize(
    "path",
    [
        "scoring.alpha",
        "teachers.0.engine.api_key_env",
        "teachers.N.price",
        "engine.base_url",
        "sampling.max_tokens",
        "scoring.quality.parts",
        "serving.keys.NAME",
        "engine.extra_body.reasoning.effort",
        "resources.collect.gpus",
        "resources.tensor_parallel",
    ],
)
def test_what_exists_is_found(path: str) -> None:
    assert exists(path)


@pytest.mark.parametrize(
    "path", ["evaluate.students", "scoring.alfa", "teachers.0.x", "engine.url"]
)
def test_what_does_not_exist_is_not(path: str) -> None:
    assert not exists(path)
