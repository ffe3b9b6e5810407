"""Fenced blocks of README.md and docs/: their language, text, place, and the comment before."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
COMMENT = re.compile(r"<!--((?:(?!-->).)*)-->\s*\Z", re.S)


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    text: str
    where: str
    """File and line."""
    note: str
    """The comment that stands right before it."""


def pages() -> list[Path]:
    """Every page that users read."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> Iterator[Block]:
    """All blocks of one language."""
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for found in FENCE.finditer(text):
            if found["language"] == language:
                before = COMMENT.search(text[: found.start()])
                line = text.count("\n", 0, found.start()) + 1
                where = f"{page.relative_to(ROOT)}:{line}"
                yield Block(language, found["text"], where, before[1].strip() if before else "")
