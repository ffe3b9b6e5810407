"""Every example, at small size."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import persyn_ray as persyn
from persyn_ray.storage.layout import RunLayout, parts_of

from ..client.router_server import KEY, RouterServer
from ..engines.openai.fault_server import Call, FaultServer, Reply, answer

EXAMPLES = Path(__file__).parents[2] / "examples"
LAB = "package:persyn_ray/lab/assets"
SMALL = ("prompts.limit=12", "prompts.num_parallel=8", "prompts.num_heldout=0")
CarryOut = Callable[..., RunLayout]


def example(name: str) -> Any:
    """A script as a module; nothing of it runs but its definitions."""
    spec = spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(run: RunLayout, recipe: persyn.Recipe, name: str) -> list[dict[str, Any]]:
    (teacher,) = [one for one in recipe.teachers if one.name == name]
    tables = [table for _, table in run.responses(teacher).tables()]
    return [row for table in tables for row in table.to_pylist()]


def test_every_example_is_listed_and_tried_here() -> None:
    files = {path.name for path in EXAMPLES.iterdir() if path.is_file()} - {"README.md"}
    listed, here = (EXAMPLES / "README.md").read_text(), Path(__file__).read_text()
    for name in files:
        assert f"({name})" in listed, name
        assert name in here or f'"{Path(name).stem}"' in here, name


def test_teachers_at_endpoints_answer_within_their_budgets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, carry_out: CarryOut
) -> None:
    keys = {"OPENAI_API_KEY": "first", "OPENROUTER_API_KEY": "second"}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    seen: dict[str, str | None] = {}

    def reply(call: Call) -> Reply | None:
        lowered = {name.lower(): value for name, value in call.headers.items()}
        seen[call.body["model"]] = lowered.get("authorization")
        return answer(call, message={"role": "assistant", "content": "The answer is 7."})

    with FaultServer(reply) as server:
        places = [f"teachers.{number}.engine.base_url={server.base_url}" for number in range(3)]
        student = [f"student.name={LAB}/student", f"router.backbone.name={LAB}/student"]
        given = (f"run={tmp_path}/run", *SMALL, *places, *student)
        recipe = persyn.load_recipe(EXAMPLES / "endpoints.yaml", given)
        assert all(one.budget or one.name == "mine" for one in recipe.teachers)
        run = carry_out(recipe, until="rewards")
    assert seen == {
        "gpt-4o-mini": "Bearer first",
        "meta-llama/llama-3.1-70b-instruct": "Bearer second",
        "Qwen/Qwen2.5-7B-Instruct": None,
    }
    for name in recipe.pool:
        assert {row["response"] for row in rows_of(run, recipe, name)} == {"The answer is 7."}


def test_several_vllm_teachers_fit_one_gpu_and_not_a_small_one() -> None:
    path = EXAMPLES / "vllm_on_one_gpu.yaml"
    plan = persyn.plan(path)
    assert set(plan.placed) == {"qwen-1.5b", "qwen-3b", "qwen-7b", "qwen-14b"}
    assert plan.anew[0].dollars is None or plan.anew[0].dollars > 0
    with pytest.raises(persyn.ConfigError, match="qwen-14b"):
        persyn.plan(path, cluster="1x1x16")


def test_texts_are_scored_and_right_ones_are_likelier(capsys: pytest.CaptureFixture[str]) -> None:
    example("score_texts").main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    means = [float(line.partition(": ")[2].partition(" nats")[0]) for line in lines]
    assert means[0] > means[1]
    assert means[2] > means[3]
    assert all("least likely" in line for line in lines)


def test_a_quality_of_one_s_own_scores_the_lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, carry_out: CarryOut
) -> None:
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "path", list(sys.path))
    recipe = persyn.load_recipe("own_quality.yaml", (f"run={tmp_path}/run", *SMALL))
    run, (part,) = carry_out(recipe, until="score"), parts_of(recipe.scoring)
    reference = {
        row["prompt_id"]: row["reference"]
        for _, table in run.prompts.tables()
        for row in table.to_pylist()
    }
    for teacher in recipe.teachers:
        said = {row["prompt_id"]: row["response"] for row in rows_of(run, recipe, teacher.name)}
        scores = [
            row for _, table in run.quality(teacher, part).tables() for row in table.to_pylist()
        ]
        assert len(scores) == 8
        for row in scores:
            right = said[row["prompt_id"]].rpartition("#")[2].strip() == reference[row["prompt_id"]]
            assert (row["quality"] > 0) == right
    sys.modules.pop("own_quality", None)


def test_a_table_is_routed_by_a_router_fitted_on_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = example("route_table")
    script.main(str(tmp_path), num_known=120, num_open=40)
    rows = pq.read_table(tmp_path / "routed.parquet").to_pylist()
    assert len(rows) == 40
    right = sum(script.BEST[row["kind"]] == row["teacher"] for row in rows)
    assert right >= 34  # by chance 13, by the best one for all 20
    assert f"{right} of 40" in capsys.readouterr().out
    assert persyn.Router.load(tmp_path / "router").teachers == script.TEACHERS


def test_the_endpoint_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PERSYN_API_KEY", KEY)
    with RouterServer() as server:
        example("ask_endpoint").main(server.url)
    assert capsys.readouterr().out.count("->") == 2


def test_scripts_say_how_they_are_called() -> None:
    for path in EXAMPLES.glob("*.py"):
        assert (path.stem in path.read_text().partition('"""')[2]) or path.stem == "own_quality"
        command = [sys.executable, "-m", "py_compile", str(path)]
        assert subprocess.run(command, check=False).returncode == 0


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", exc_type=ImportError)
    nbclient = pytest.importorskip("nbclient", exc_type=ImportError)
    text = (EXAMPLES / "first_steps.ipynb").read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=place).execute()
    said = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )
    found = re.search(r"routed ([\d.]+), one for all ([\d.]+), best possible ([\d.]+)", said)
    assert found is not None, json.dumps(notebook.cells[-2].get("outputs"))
    routed, constant, best = map(float, found.groups())
    assert constant <= routed <= best
