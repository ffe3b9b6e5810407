"""What docs/python.md and docs/extending.md show works as it stands there."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import persyn_ray as persyn
from persyn_ray.storage.layout import RunLayout, parts_of

DOCS = Path(__file__).parents[2] / "docs"
Make = Callable[..., persyn.Recipe]


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_page_on_python_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_recipe: Make
) -> None:
    monkeypatch.chdir(tmp_path)
    made = make_recipe().model_dump(mode="json", exclude_unset=True)
    Path("recipe.yaml").write_text(yaml.safe_dump(made))
    names: dict[str, Any] = {}
    for code in blocks("python.md", "python"):
        exec(compile(code, "docs/python.md", "exec"), names)
    assert names["routes"].teachers == ("letters", "numbers")
    assert names["found"].mean_log_likelihood[0] > names["found"].mean_log_likelihood[1]
    assert names["plan"].responses_collect == 36
    assert names["recipe"].scoring.alpha == 0.3


def test_the_parts_of_one_s_own_carry_a_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_recipe: Make,
    carry_out: Callable[..., RunLayout],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for code in blocks("extending.md", "python"):
        Path(code.partition("\n")[0].removeprefix("# ")).write_text(code)
    quality, teachers = map(yaml.safe_load, blocks("extending.md", "yaml"))
    recipe = make_recipe({"scoring.quality": quality["scoring"]["quality"], **teachers})
    run, (part,) = carry_out(recipe, until="score"), parts_of(recipe.scoring)
    mine, other = recipe.teachers
    said = [row for _, table in run.responses(mine).tables() for row in table.to_pylist()]
    assert len(said) == 12
    assert all(row["response"].endswith("!!") for row in said)
    scores = [row for _, table in run.quality(other, part).tables() for row in table.to_pylist()]
    assert {row["outcome"] for row in scores} == {"scored"}
    for name in ("my_quality", "my_engine"):
        sys.modules.pop(name, None)
