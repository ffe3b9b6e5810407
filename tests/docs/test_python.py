"""Python in the documents: all of it compiles, its imports exist, and what says so is run.

A block after `<!-- run -->` is run; `<!-- run with "A" as "B" -->` runs it with other words. Blocks
of docs/exports.md are what tests/exports/loaders carries out with the trainers themselves.
"""

import ast
import importlib
import re
from pathlib import Path

import pytest

from .blocks import Block, blocks

BLOCKS = list(blocks("python"))
RUN = [block for block in BLOCKS if block.note.startswith("run")]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_it_compiles_and_its_imports_exist(block: Block) -> None:
    aliases: dict[str, object] = {}
    for node in ast.walk(ast.parse(block.text, block.where)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("persyn_ray"):
            module = importlib.import_module(node.module or "")
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []
        elif isinstance(node, ast.Import):
            ours = [name for name in node.names if name.name == "persyn_ray"]
            aliases |= {
                name.asname or name.name: importlib.import_module(name.name) for name in ours
            }
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = aliases.get(node.value.id)
            assert owner is None or hasattr(owner, node.attr), node.attr


def test_some_blocks_are_run() -> None:
    assert RUN


@pytest.mark.parametrize("block", RUN, ids=lambda block: block.where)
def test_it_runs(
    block: Block,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = block.text
    for given, taken in re.findall(r'"([^"]+)" as "([^"]+)"', block.note):
        assert given in text
        text = text.replace(given, taken)
    monkeypatch.chdir(tmp_path)
    exec(compile(text, block.where, "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.strip()
