"""README.md as a newcomer follows it: its commands and its Python, word for word, on a real Ray.

Its recipe names models and endpoints that no test has; a small one stands in its place, with the
same run folder. That the recipe itself is one is tested by tests/docs/test_recipes.py.
"""

import re
import shlex
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import persyn_ray
from persyn_ray.cli.main import app
from persyn_ray.recipe.recipe import Recipe, load_recipe
from persyn_ray.runtime.session import Cluster

from ..viewing import viewer

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
README = Path(__file__).parents[2] / "README.md"
RUN = "runs/mine"
SMALL = {
    "run": RUN,
    "prompts.path": "prompts.jsonl",
    "compare.methods": [],
    "router.epochs": 1,
    "finetune.max_steps": 2,
}


def shown(language: str) -> list[str]:
    """Blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", README.read_text("utf-8"), re.DOTALL)


def commands() -> dict[str, list[str]]:
    """Words of each `persyn` line after the recipe, by command."""
    lines = [
        shlex.split(line, comments=True) for block in shown("bash") for line in block.splitlines()
    ]
    return {words[1]: words[1:] for words in lines if words[:1] == ["persyn"]}


def carried_out(words: list[str]) -> str:
    """What a command prints in this process, whose Ray it uses."""
    result = CliRunner().invoke(app, words)
    if result.exception is not None:
        raise result.exception
    return " ".join(result.output.split())


def viewed(words: list[str]) -> str:
    """What a viewer says of the run."""
    with (
        viewer(words) as address,
        urllib.request.urlopen(f"{address}api/run", timeout=60) as reply,
    ):
        return reply.read().decode()


def test_init_writes_a_recipe_from_the_line_that_is_shown(
    make_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_recipe()  # leaves prompts.jsonl
    monkeypatch.chdir(tmp_path)
    words = commands()["init"]
    carried_out(words)
    recipe = load_recipe(Path(words[1]))
    assert len(recipe.teachers) == words.count("--teacher") >= 2
    assert recipe.student.name == words[words.index("--student") + 1]
    assert recipe.prompts.reference_column == "answer"


def test_all_that_is_shown_after_the_recipe_works_as_it_stands(
    make_recipe: Callable[..., Recipe],
    random_llama: str,
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    models = {"student.name": random_llama, "router.backbone.name": random_llama}
    made = make_recipe(SMALL | models).model_dump(mode="json", exclude_unset=True)
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(yaml.safe_dump(made))
    given = commands()
    assert yaml.safe_load(shown("yaml")[0])["run"] == RUN == given["view"][1]
    assert set(given) == {"quickstart", "init", "check", "plan", "run", "view", "export"}

    assert "Ready: persyn run recipe.yaml" in carried_out(given["check"])
    assert "12 parallel" in carried_out(given["plan"])
    assert not Path(RUN).exists()
    assert "report.html" in carried_out(given["run"])
    assert '"num_prompts":24' in viewed(given["view"]).replace(" ", "")
    assert "Wrote" in carried_out(given["export"])
    assert list(Path(RUN, "exports", "trl").rglob("*.parquet"))

    capsys.readouterr()
    (code,) = shown("python")
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    likelihood, teachers = capsys.readouterr().out.strip().splitlines()[-2:]
    assert float(likelihood.strip("[]")) < 0
    assert teachers in {f"('{name}',)" for name in persyn_ray.load_recipe("recipe.yaml").pool.names}
