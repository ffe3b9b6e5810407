"""Messages of docs/troubleshooting.md are those of the code, part by part and in order."""

import ast
import re
from functools import cache

import pytest

from .blocks import ROOT, Block, blocks

GAP = "…"
BLOCKS = [block for block in blocks("text") if block.where.startswith("docs/troubleshooting.md")]


def template(node: ast.AST) -> str:
    """A string of the code with a gap for each value that is filled in."""
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=values):
            return "".join(template(value) for value in values)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return template(left) + template(right)
        case _:
            return GAP


@cache
def messages() -> list[str]:
    """Every string of the package, white space made even."""
    found: list[str] = []
    for path in sorted((ROOT / "persyn_ray").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr | ast.BinOp | ast.Constant):
                found.append(" ".join(template(node).split()))
    return found


def pattern(told: str) -> re.Pattern[str]:
    parts = [re.escape(" ".join(part.split())) for part in told.split(GAP)]
    return re.compile(".*?".join(part for part in parts if part))


def test_there_are_enough_of_them() -> None:
    assert len(BLOCKS) >= 25


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_the_code_says_so(block: Block) -> None:
    wanted = pattern(block.text.strip())
    assert any(wanted.search(message) for message in messages()), block.text


def test_an_invented_message_would_be_noticed() -> None:
    wanted = pattern("No recipe at …. Write one by hand.")
    assert not any(wanted.search(message) for message in messages())
