"""Code of one's own on Ray's workers: they get the copy that the run has brought them."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from persyn_ray.recipe.recipe import parse_recipe
from persyn_ray.storage.layout import parts_of, run_of

from ..conftest import changed, planted_rows, recipe_data, write_jsonl

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
CODE = """
from persyn_ray.engines.base import Completion

IS_COPY = "py_modules_files" in __file__

class Tell:
    overlaps = False
    def check(self): ...
    def refuses(self, request): ...
    def generate(self, requests):
        return [Completion(f"copy: {IS_COPY}", "stop", 1, 1) for _ in requests]
    def close(self): ...

def build(teacher):
    return Tell()

def score(rows):
    return [IS_COPY for _ in rows]
"""


def test_engines_and_qualities_of_one_s_own_reach_workers(
    tmp_path: Path, random_llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "own_on_ray.py").write_text(CODE)
    write_jsonl(tmp_path / "prompts.jsonl", planted_rows(24))
    quality = {"kind": "python", "function": "own_on_ray:score", "processes": 1}
    data: dict[str, Any] = changed(
        recipe_data(tmp_path),
        {
            "student.name": random_llama,
            "router.backbone.name": random_llama,
            "scoring.quality": quality,
            "scoring.alpha": 0.0,
        },
    )
    data["teachers"] += [
        {"name": "mine", "engine": {"kind": "python", "factory": "own_on_ray:build"}}
    ]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(data))
    path = os.pathsep.join(filter(None, [str(elsewhere), os.environ.get("PYTHONPATH")]))
    ended = subprocess.run(
        [sys.executable, "-m", "persyn_ray.cli", "run", "recipe.yaml", "--until", "score"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr

    monkeypatch.syspath_prepend(str(elsewhere))
    recipe = parse_recipe(data, "test")
    run, (part,) = run_of(recipe), parts_of(recipe.scoring)
    for teacher in recipe.teachers:
        scores = [table for _, table in run.quality(teacher, part).tables()]
        assert [row["quality"] for table in scores for row in table.to_pylist()] == [1.0] * 12
    mine = [table for _, table in run.responses(recipe.teachers[-1]).tables()]
    assert [row["response"] for table in mine for row in table.to_pylist()] == ["copy: True"] * 12
