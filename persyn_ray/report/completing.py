"""Fit plain values to the types that document them: TypedDicts of scalars, lists and mappings.

What is missing becomes null, [] or {}; NaN and infinity become null, because JSON has neither. What
the types do not know is refused, never dropped.
"""

import math
import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

from persyn_ray.errors import DataError


def completed(value: Any, kind: Any, where: str) -> Any:
    """A copy of `value` with every key of the type `kind`; it stands under the key `where`.

    Raises:
        DataError: a key is none of the type's, or a value has another type.
    """
    kind, optional = _without_none(kind)
    if is_typeddict(kind):
        return _section(value, kind, where) if value or not optional else None
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        values = _expect(value if value is not None else [], list, where)
        return [completed(one, item, f"{where}[{index}]") for index, one in enumerate(values)]
    if get_origin(kind) is dict:
        _, item = get_args(kind)
        values = _expect(value if value is not None else {}, Mapping, where)
        return {str(key): completed(one, item, f"{where}.{key}") for key, one in values.items()}
    return _scalar(value, kind, where)


def _section(value: Any, kind: Any, where: str) -> dict[str, object]:
    hints = get_type_hints(kind)
    values = _expect(value, Mapping, where)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise DataError(f"{where} holds the keys {unknown}; documented are {sorted(hints)}.")
    return {key: completed(values.get(key), hint, f"{where}.{key}") for key, hint in hints.items()}


def _scalar(value: Any, kind: Any, where: str) -> Any:
    if kind is Any or value is None:
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    allowed = {float: (int, float), int: int, str: str, bool: bool}[kind]
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        raise DataError(f"{where} is {value!r} ({type(value).__name__}); expected {kind.__name__}.")
    return value


def _expect(value: Any, kind: type, where: str) -> Any:
    if isinstance(value, kind):
        return value
    raise DataError(f"{where} is {value!r}; expected a {'list' if kind is list else 'mapping'}.")


def _without_none(kind: Any) -> tuple[Any, bool]:
    """The type without its `| None`, and whether None was allowed."""
    if get_origin(kind) not in (Union, types.UnionType):
        return kind, False
    (kept,) = [part for part in get_args(kind) if part is not type(None)]
    return kept, True
