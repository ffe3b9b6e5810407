"""The recipe reference: the settings classes of persyn_ray.recipe in, one Markdown page out."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal, Union

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from persyn_ray.recipe.base import Section
from persyn_ray.recipe.recipe import Recipe

WORDS = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "Any": "anything",
}
BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def recipe_reference() -> str:
    """All sections, each once, in the order in which a recipe names them."""
    return "\n\n".join(_section(place, kind) for place, kind in sections().items())


def sections() -> dict[str, type[Section]]:
    """Each settings class with the dotted place where it stands first."""
    found: dict[str, type[Section]] = {}
    _collect("", Recipe, found)
    return found


def _collect(place: str, kind: type[Section], found: dict[str, type[Section]]) -> None:
    if kind in found.values():
        return
    found[place] = kind
    for name, field in kind.model_fields.items():
        for inner in classes(field.annotation):
            key = f"{place}.{name}".strip(".")
            variants = [one for one in classes(field.annotation) if kind_of(one)]
            _collect(f"{key} ({kind_of(inner)})" if len(variants) > 1 else key, inner, found)


def classes(annotation: Any) -> Iterator[type[Section]]:
    """Settings classes that a field's type names."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        if issubclass(annotation, Section):
            yield annotation
        return
    for part in typing.get_args(annotation):
        yield from classes(part)


def kind_of(section: type[Section]) -> str | None:
    """The value of `kind` that chooses a class among several."""
    field = section.model_fields.get("kind")
    choices = typing.get_args(field.annotation) if field is not None else ()
    return str(choices[0]) if choices else None


def _section(place: str, kind: type[Section]) -> str:
    heading = f"## {f'`{place}`' if place else 'The whole'} {{ #{anchor(place)} }}"
    rows = [_row(name, field) for name, field in kind.model_fields.items()]
    table = "\n".join(["| key | |", "|---|---|", *rows])
    return f"{heading}\n\n{_cell(kind.__doc__ or '')}\n\n{table}"


def anchor(place: str) -> str:
    """The id of a section's heading."""
    return "-".join(["recipe", *re.findall(r"\w+", place)])


@cache
def _place_of(kind: type[Section]) -> str:
    return next(place for place, one in sections().items() if one is kind)


def _row(name: str, field: FieldInfo) -> str:
    told = _cell(field.description or "")
    facts = f"{_cell(described(field))} · {_default(field)}"
    return f"| `{name}` | {told}{'<br>' if told else ''}<small>{facts}</small> |"


def described(field: FieldInfo) -> str:
    """The type of a field in words, with its bounds."""
    bounds = [
        f"{sign} {getattr(item, name):g}"
        for item in field.metadata
        for name, sign in BOUNDS.items()
        if getattr(item, name, None) is not None
    ]
    return ", ".join([_words(field.annotation), *bounds])


def _words(annotation: Any) -> str:
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _words(parts[0])
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin in (Union, types.UnionType):
        named = [_words(part) for part in parts]
        return " or ".join(dict.fromkeys(named))
    if origin in (tuple, list):
        return f"list of {_words(parts[0])}" if parts else "list"
    if origin is dict:
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return f"[{kind_of(annotation) or 'section'}](#{anchor(_place_of(annotation))})"
    if annotation is type(None):
        return "null"
    return WORDS.get(getattr(annotation, "__name__", str(annotation)), str(annotation))


def _default(field: FieldInfo) -> str:
    value = field.default
    if field.default_factory is not None:
        value = field.default_factory()  # type: ignore[call-arg]
    if value is PydanticUndefined:
        return "**required**"
    if isinstance(value, Section):
        return "may be left out"
    if isinstance(value, str) and "\n" in value:
        return "has a default"
    shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
    if isinstance(shown, tuple):
        shown = "[" + ", ".join(map(str, shown)) + "]" if len(shown) <= 6 else "all"
    return (
        "empty by default"
        if shown in ("", {})
        else f"default `{str(shown).replace('|', '&#124;')}`"
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
