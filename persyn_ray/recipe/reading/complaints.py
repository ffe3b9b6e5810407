"""Complaints about a recipe: errors of pydantic in; key, value and what is right in sentences out.

A mistyped key or value is answered with the nearest right one; a key of another section with the
place where it belongs.
"""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel

from persyn_ray.credentials import GUARDED

Loc = tuple[str | int, ...]

MOST_NAMED = 12  # keys of a section that a complaint lists
MOST_PLACES = 3
DEPTH = 5  # of the keys that are looked through for a misplaced one
QUOTED = re.compile(r"'([^']*)'")
CHOICES = {"literal_error": "expected", "union_tag_invalid": "expected_tags"}
"""Kinds of errors that list the right values, and where."""
PLAIN_MESSAGES = {
    "extra_forbidden": "there is no such key",
    "union_tag_invalid": "kind is '{tag}'; it must be one of {expected_tags}",
    "union_tag_not_found": "kind is missing; it says what the section is",
}
"""What is said of errors for which pydantic has words of its own trade."""


def complaints(root: type[BaseModel], errors: Sequence[Any]) -> list[str]:
    """A line on each error of a section's validation, but for those that follow from others."""
    places = [error["loc"] for error in errors]
    return [
        _complaint(root, error)
        for error in errors
        if error["type"] != "too_short" or not any(_is_below(loc, error["loc"]) for loc in places)
    ]


def _is_below(loc: Loc, other: Loc) -> bool:
    return len(loc) > len(other) and loc[: len(other)] == other


def _complaint(root: type[BaseModel], error: Any) -> str:
    loc, kind = error["loc"], error["type"]
    key = dotted(loc) or "recipe"
    is_quiet = kind in ("missing", *PLAIN_MESSAGES) or not GUARDED.isdisjoint(loc)
    given = "" if is_quiet else f" (given: {error['input']!r})"
    return f"  {key}: {_message(error)}{given if len(given) < 200 else ''}{_advice(root, error)}"


def _message(error: Any) -> str:
    """What is wrong, in words that need no knowledge of pydantic."""
    if error["type"] in PLAIN_MESSAGES:
        return PLAIN_MESSAGES[error["type"]].format(**error.get("ctx", {}))
    return error["msg"].removeprefix("Value error, ")


def dotted(loc: Loc) -> str:
    """Where a complaint belongs; whoever has a key is not named, for it may be the key."""
    parts = [str(part) for part in loc]
    if "keys" in parts[:-1]:
        parts = [*parts[: parts.index("keys") + 1], "NAME"]
    return ".".join(parts)


def _advice(root: type[BaseModel], error: Any) -> str:
    """What was probably meant; empty where nothing is near."""
    kind, loc = error["type"], error["loc"]
    if kind == "extra_forbidden":
        return _for_key(root, loc)
    if kind in CHOICES:
        given = error["ctx"].get("tag", error["input"])
        right = QUOTED.findall(error["ctx"][CHOICES[kind]])
        near = _nearest(given, right) if isinstance(given, str) else None
        return f". Did you mean {near}?" if near else ""
    return ""


def _for_key(root: type[BaseModel], loc: Loc) -> str:
    wrong = str(loc[-1])
    here = sorted({name for model in models_at(root, loc[:-1]) for name in model.model_fields})
    if near := _nearest(wrong, here):
        return f". Did you mean {near}?"
    places = [path for path in paths_of(root) if path.rpartition(".")[2] == wrong]
    if places and len(places) <= MOST_PLACES:
        return f". Did you mean {' or '.join(places)}?"
    shown = ", ".join(here[:MOST_NAMED]) + (", …" if len(here) > MOST_NAMED else "")
    return f". The keys here: {shown}" if here else ""


def _nearest(given: str, right: Sequence[str]) -> str | None:
    """The right word that was probably meant, whatever its case, dashes and blanks."""
    plain = {_plain(word): word for word in right}
    begun = [word for word in plain if word.startswith(_plain(given)) and len(given) > 2]
    found = begun or get_close_matches(_plain(given), plain, 1, 0.6)
    return plain[found[0]] if found else None


def _plain(word: str) -> str:
    return re.sub(r"[\s-]", "_", word.lower())


def models_at(root: type[BaseModel], loc: Loc) -> list[type[BaseModel]]:
    """The sections that may stand at a place; several where it is a union without its kind."""
    found = [root]
    for part in loc:
        if isinstance(part, int):
            continue
        fields = [model.model_fields[part] for model in found if part in model.model_fields]
        if fields:
            found = [model for field in fields for model in _models(field.annotation)]
            continue
        of_kind = [model for model in found if part in _kinds(model)]
        found = of_kind or found  # else the key of a mapping
    return found


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Sections within unions, tuples and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _kinds(model: type[BaseModel]) -> tuple[Any, ...]:
    """The values of `kind` by which a union knows this section."""
    field = model.model_fields.get("kind")
    return () if field is None else get_args(field.annotation)


def paths_of(root: type[BaseModel], above: str = "", depth: int = DEPTH) -> Iterator[str]:
    """Dotted keys of all settings, sections before what is in them; N stands for a position."""
    if depth == 0:
        return
    seen: set[str] = set()
    for name, field in root.model_fields.items():
        path = f"{above}{name}"
        yield path
        step = ".N." if "tuple" in str(field.annotation) else "."
        for model in _models(field.annotation):
            for below in paths_of(model, f"{path}{step}", depth - 1):
                if below not in seen:
                    seen.add(below)
                    yield below
