"""Files are UTF-8 whatever the locale, and a terminal without Unicode stops no command."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "persyn_ray").rglob("*.py"))
# Without a locale Python would take UTF-8 by itself, but for this variable.
PLAIN = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
RECIPE = """
run: {folder}/läuft
name: Größe – 大きさ
student: {{name: "random:llama"}}
teachers:
  - {{name: a, engine: {{kind: scripted}}, system_prompt: "Schön – 好"}}
  - {{name: b, engine: {{kind: scripted}}}}
prompts:
  path: {folder}/prompts.jsonl
  num_parallel: 2
  reference_column: answer
  template: "¿{{prompt}} – ø?"
scoring: {{quality: {{kind: exact_match, marker: "→"}}}}
router: {{backbone: {{name: "random:llama"}}}}
"""


def opened_in_the_locale(path: Path) -> Iterator[int]:
    """Lines that read or write text and do not say in which encoding."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        words = [a.value for a in node.args if isinstance(a, ast.Constant)]
        is_binary = any(isinstance(word, str) and "b" in word for word in words)
        # A folder's `read_text` and `write_text` take one argument more, its file's name.
        num_without = {"read_text": 0, "write_text": 1}.get(name)
        is_os = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "os"
        is_text = num_without == len(node.args) or (name == "open" and not is_binary and not is_os)
        if is_text and not any(keyword.arg in ("encoding", None) for keyword in node.keywords):
            yield node.lineno


def test_every_text_file_is_opened_as_utf_8() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES
        for line in opened_in_the_locale(path)
    }
    assert found == set()


def run_command(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "persyn_ray.cli.main", *arguments],
        env=os.environ | PLAIN | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=600,
    )


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    lines = [f'{{"prompt": "Größe {n} – 大", "answer": "→{n}"}}\n' for n in range(4)]
    (tmp_path / "prompts.jsonl").write_text("".join(lines), encoding="utf-8")
    path = tmp_path / "rezept.yaml"
    path.write_text(RECIPE.format(folder=tmp_path), encoding="utf-8")
    return path


def test_a_recipe_is_planned_without_a_locale(recipe: Path) -> None:
    done = run_command("plan", str(recipe))
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    assert b"Error" not in done.stderr


def test_the_prompts_and_the_record_of_a_run_are_utf_8_without_a_locale(
    recipe: Path, tmp_path: Path
) -> None:
    done = run_command("run", str(recipe), "--until", "prompts")
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    (stored,) = tmp_path.glob("*/recipe.json")
    assert stored.parent.name == "läuft"
    kept = json.loads(stored.read_bytes())
    assert kept["name"] == "Größe – 大きさ"
    assert kept["teachers"][0]["system_prompt"] == "Schön – 好"
    (shard, *_) = sorted(stored.parent.glob("tables/prompts/*.parquet"))
    (content,) = [turn["content"] for turn in pq.read_table(shard)["messages"].to_pylist()[0]]
    assert re.fullmatch("¿Größe [0-3] – 大 – ø\\?", content)


def test_what_is_wrong_is_said_without_a_locale(tmp_path: Path) -> None:
    path = tmp_path / "rezept.yaml"
    path.write_text("name: Größe – 大\nschlüssel: ja", encoding="utf-8")
    done = run_command("plan", str(path))
    assert done.returncode == 1
    assert b"is no valid recipe" in b" ".join(done.stderr.split())
    assert b"Traceback" not in done.stderr


def test_a_recipe_that_is_no_utf_8_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes("name: Größe".encode("latin-1"))
    done = run_command("plan", str(path))
    assert done.returncode == 1
    assert b"is no UTF-8 text" in b" ".join(done.stderr.split())
    assert b"Traceback" not in done.stderr
