"""Finds the response limit in `extra_body`, under the names that endpoints give it.

A limit is known by its path: `("max_tokens",)`, or `("options", "num_predict")` where it stands
inside another field. Pure; knows neither recipes nor engines.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Path = tuple[str, ...]

NAMES = frozenset(
    {
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "max_new_tokens",
        "max_generated_tokens",
        "max_tokens_to_sample",
        "num_predict",
        "n_predict",
        "maxTokens",
        "maxOutputTokens",
    }
)
# Fields that hold settings of sampling. Elsewhere, as in `reasoning`, such a name bounds thinking.
HOLDERS = frozenset(
    {"options", "parameters", "generation_config", "generationConfig", "inferenceConfig"}
)


def limits_in(fields: Mapping[str, Any]) -> dict[Path, int | None]:
    """Limits that the fields name; None where one is set to null, so as to be left out."""
    return {
        path: value
        for path, value in _walk(fields)
        if value is None or (isinstance(value, int) and not isinstance(value, bool))
    }


def largest_limit(fields: Mapping[str, Any]) -> int | None:
    """The largest limit that the fields set; None where they set none."""
    return max((limit for limit in limits_in(fields).values() if limit is not None), default=None)


def with_limit(fields: Mapping[str, Any], limit: int) -> dict[str, object]:
    """The fields with every limit that they set replaced by this one."""
    for path, value in limits_in(fields).items():
        if value is not None:
            fields = _put(fields, path, limit)
    return dict(fields)


def _put(fields: Mapping[str, Any], path: Path, limit: int) -> dict[str, object]:
    first, rest = path[0], path[1:]
    return {**fields, first: _put(fields[first], rest, limit) if rest else limit}


def _walk(fields: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    for name, value in fields.items():
        if name in NAMES:
            yield (name,), value
        elif name in HOLDERS and isinstance(value, Mapping):
            yield from (((name, *path), inner) for path, inner in _walk(value))
