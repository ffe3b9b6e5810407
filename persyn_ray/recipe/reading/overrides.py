"""Overrides of the command line: `section.key=value` and a recipe's mapping in, a changed copy out.

A teacher is meant by its name or by its position: `teachers.NAME.retired=true` and
`teachers.4.retired=true`. A name counts first, and may hold dots and digits.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import yaml

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.reading.short_forms import SECTIONS_OF_MODELS, long_model, long_teacher

TEACHERS = "teachers"


def change(data: Mapping[str, Any], override: str) -> Mapping[str, Any]:
    """A copy of a mapping with one override applied; short forms become long where it needs that.

    Raises:
        ConfigError: it is no `section.key=value`, or does not fit what is there.
    """
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"Override {override!r} must read section.key=value.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"Override {key!r}: the value is no valid YAML: {yaml_problem(error)}"
        ) from None
    return _changed(dict(data), _parts(data, key), value, key)


def completed(data: Any, paths: Sequence[str], begun: str) -> list[str]:
    """The overrides that a text may become, up to their `=`.

    Args:
        data: the recipe's mapping, whose teachers are meant by name; anything else has none.
        paths: dotted keys of all settings, with N for the position of a teacher.
    """
    teachers = data.get(TEACHERS) if isinstance(data, dict) else None
    names = [name for name in _names(teachers if isinstance(teachers, list) else []) if name]
    is_above = {path.rpartition(".")[0] for path in paths}
    keys = [path for path in paths if path not in is_above or _last(path) in SECTIONS_OF_MODELS]
    of_teacher = f"{TEACHERS}.N."
    found = [key for key in keys if not key.startswith(TEACHERS)]
    for name in names:
        found += [
            key.replace(of_teacher, f"{TEACHERS}.{name}.") for key in keys if of_teacher in key
        ]
    return [f"{key}=" for key in found if key.startswith(begun) and ".N." not in key]


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def yaml_problem(error: yaml.YAMLError) -> str:
    """What is wrong with a YAML text, and where; not the text itself, which may hold a key."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    where = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
    return f"{problem or type(error).__name__}{where}"


def _parts(data: Mapping[str, Any], key: str) -> list[str]:
    """The keys that lead to a value; the position of a teacher in place of its name."""
    section, _, rest = key.partition(".")
    teachers = data.get(section)
    if section != TEACHERS or not rest or not isinstance(teachers, list):
        return key.split(".")
    names = _names(teachers)
    meant = [name for name in names if rest == name or rest.startswith(f"{name}.")]
    if meant:
        name = max(meant, key=len)
        below = rest.removeprefix(name).lstrip(".")
        return [section, str(names.index(name)), *(below.split(".") if below else ())]
    first = rest.partition(".")[0]
    if not first.isdecimal() or int(first) >= len(teachers):
        raise ConfigError(_no_teacher(key, rest, names))
    return key.split(".")


def _names(teachers: Sequence[Any]) -> list[str]:
    """The teachers' names, in the recipe's order; "" for one that has none yet."""
    names: list[str] = []
    for teacher in teachers:
        try:
            known = long_teacher(teacher)
        except ValueError:  # the recipe's own complaint comes later
            known = None
        names.append(str(known.get("name", "")) if isinstance(known, dict) else "")
    return names


def _no_teacher(key: str, rest: str, names: Sequence[str]) -> str:
    shown = [name for name in names if name]
    first = rest.partition(".")[0]
    near = get_close_matches(rest, shown, 1) or get_close_matches(first, shown, 1)
    hint = f" Did you mean {TEACHERS}.{near[0]}?" if near else ""
    return (
        f"Override {key!r}: {first!r} is no teacher. The teachers are {', '.join(shown)}, by name "
        f"or by position from 0 to {len(names) - 1}.{hint}"
    )


def _changed(
    node: Any, keys: Sequence[str], value: Any, whole: str, above: tuple[str, ...] = ()
) -> Any:
    """A copy of a node with one value set: YAML aliases share nodes, which must not change."""
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    here = (*above, key)
    node = _long(node, above, whole)
    if isinstance(node, list):
        if not key.isdecimal() or int(key) >= len(node):
            raise ConfigError(
                f"Override {whole!r}: {key!r} is no position in a list of {len(node)}; "
                "positions start at 0."
            )
        copy = list(node)
        copy[int(key)] = _changed(node[int(key)], rest, value, whole, here)
        return copy
    if node is not None and not isinstance(node, dict):
        raise ConfigError(f"Override {whole!r}: {key!r} stands below a plain value.")
    return (node or {}) | {key: _changed((node or {}).get(key), rest, value, whole, here)}


def _long(node: Any, path: tuple[str, ...], whole: str) -> Any:
    """What stands at a path of keys, in its long form where it is a text that has one."""
    if not isinstance(node, str) or not path:
        return node
    if len(path) == 2 and path[0] == TEACHERS:
        try:
            return long_teacher(node)
        except ValueError as error:
            raise ConfigError(f"Override {whole!r}: {error}.") from None
    return long_model(node) if path[-1] in SECTIONS_OF_MODELS else node
