"""Compares a predicted output of a program with its real one: a response and a Python literal in.

What CRUXEval asks for: the reference is the value that a function returns, as a literal; a response
states one in a JSON field, in tags, in a block of code, or at its end.
"""

import ast
import json
import re
import warnings
from typing import Any

from persyn_ray.checks.code.programs import BLOCK
from persyn_ray.checks.verifier import CORRECT, NO_ANSWER, WRONG, Verdict

_TAGGED = re.compile(r"\[ANSWER\](.*?)(?:\[/ANSWER\]|\Z)", re.S)
_FIELD = re.compile(r'"answer"\s*:\s*')
_EQUAL = re.compile(r"^assert\s.*?==\s*(.+)$|^.*?(?:is|=|returns)[:\s]+(.+?)\.?$", re.S)


def predicts(response: str, reference: str) -> Verdict:
    """Whether a response states the output that a program has, as a Python literal (CRUXEval).

    Read are, in this order: the JSON field `answer`, what stands in [ANSWER] tags, the last
    block of code, the last line; of `assert f(...) == value` and `the output is: value` the value.
    """
    value = _literal(_stated(response))
    wanted = _literal(reference.strip())
    if value is None:
        return NO_ANSWER
    if wanted is None:  # text that is no literal is compared as it stands
        return CORRECT if _stated(response).strip("\"' ") == reference.strip() else WRONG
    return CORRECT if _same(value[0], wanted[0]) else WRONG


def _same(one: Any, other: Any) -> bool:
    """Equal and of one type: True is not 1; nan is itself."""
    try:
        return type(one) is type(other) and (one == other or repr(one) == repr(other))
    except (RecursionError, ValueError):
        return False


def _stated(response: str) -> str:
    field = _field(response)
    if field is not None:
        return field
    tagged = _TAGGED.findall(response)
    if tagged:
        return _value(tagged[-1])
    blocks = [body for _, _, body in BLOCK.findall(response) if body.strip()]
    text = blocks[-1] if blocks else response
    lines = [line for line in text.splitlines() if line.strip()]
    return _value(lines[-1]) if lines else ""


def _field(response: str) -> str | None:
    """The last JSON field `answer`: a text as it is, anything else as a Python literal."""
    found = [match.end() for match in _FIELD.finditer(response)]
    if not found:
        return None
    rest = response[found[-1] :]
    try:
        value, _ = json.JSONDecoder(strict=False).raw_decode(rest)
    except (ValueError, RecursionError):  # Python in place of JSON
        return re.split(r"\n|\}\s*(?:```|$)", rest)[0].strip().rstrip(",")
    return value if isinstance(value, str) else repr(value)


def _value(text: str) -> str:
    """The value in `assert f(x) == value` or `the output is: value`; else the text."""
    text = text.strip().strip("`*").strip()
    if _literal(text) is not None:
        return text
    match = _EQUAL.match(text)
    return (match[1] or match[2]).strip().strip("`*").strip() if match else text


def _literal(text: str) -> tuple[Any] | None:
    try:
        with warnings.catch_warnings(action="ignore", category=SyntaxWarning):  # of `1and`
            return (ast.literal_eval(text.strip()),)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None
