"""Escapes control characters of foreign text for terminals and pages.

Prompts, responses, labels and messages of servers are data. Control sequences would move the
cursor, rewrite the title or hide text, marks of writing direction would turn lines round, and
brackets would be read as markup. Every place that prints such text calls one of these.
"""

import json
import logging
import re
from typing import Any

from rich.text import Text

ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but for tab and newline
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # writing direction
    "\u2028\u2029\ufff9-\ufffb\ufeff"  # separators, annotations, byte order
    "\ud800-\udfff\U000e0000-\U000e007f]"  # half a character; invisible tags
)
CUT = " \N{HORIZONTAL ELLIPSIS}"


def visible(text: object) -> str:
    """The text with every character that would act as an escape; lines and tabs stay."""
    return ACTING.sub(_escape, str(text).replace("\r\n", "\n"))


def one_line(text: object, longest: int | None = None) -> str:
    """The same in one line of at most so many characters, for labels and cells of tables."""
    line = visible(" ".join(str(text).split()))
    return line if longest is None or len(line) <= longest else line[:longest].rstrip() + CUT


def plain(text: object, style: str = "") -> Text:
    """The text for a rich console: nothing in it is markup, an emoji code or a control sequence."""
    return Text(visible(text), style)


def json_text(text: str) -> str:
    """A JSON document of the same value, in which what would act stands as \\u escapes."""
    return ACTING.sub(_json_escape, text)


class VisibleFormatter(logging.Formatter):
    """Log records, tracebacks included, as visible text."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def visible_logs(level: int = logging.WARNING) -> None:
    """Have this process log as visible text, from a level on."""
    logging.basicConfig(level=level)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(VisibleFormatter(logging.BASIC_FORMAT))


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(match: re.Match[str]) -> str:
    return json.dumps(match.group())[1:-1]


def visible_values(value: Any, longest: int, longest_key: int) -> Any:
    """A copy of lists and mappings whose texts and keys are each `one_line` of at most so long.

    Keys that become the same are numbered, so that none is lost.
    """
    if isinstance(value, str):
        return one_line(value, longest)
    if isinstance(value, list):
        return [visible_values(one, longest, longest_key) for one in value]
    if not isinstance(value, dict):
        return value
    made: dict[str, Any] = {}
    for key, one in value.items():
        name = shown = one_line(key, longest_key)
        number = 1
        while name in made:
            number += 1
            name = f"{shown} ({number})"
        made[name] = visible_values(one, longest, longest_key)
    return made
