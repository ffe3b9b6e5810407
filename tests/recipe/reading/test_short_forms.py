"""Short forms: a recipe that is written in few words is the same recipe."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from persyn_ray.cli.main import app
from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.runner import planned_steps
from persyn_ray.recipe.recipe import load_recipe, parse_recipe
from persyn_ray.storage.layout import run_of

SHORT = """
run: RUN
student: Qwen/Qwen2.5-1.5B
teachers:
  - vllm:Qwen/Qwen2.5-7B-Instruct
  - transformers:Qwen/Qwen2.5-3B-Instruct
  - openai:gpt-4o-mini
  - {name: own, engine: {kind: vllm, model: org/own}}
prompts: {path: p.jsonl}
scoring: {quality: {kind: reward_model, model: org/reward}}
router: {backbone: Qwen/Qwen2.5-1.5B}
"""
LONG = """
run: RUN
student: {name: Qwen/Qwen2.5-1.5B}
teachers:
  - {name: Qwen2.5-7B-Instruct, engine: {kind: vllm, model: {name: Qwen/Qwen2.5-7B-Instruct}}}
  - name: Qwen2.5-3B-Instruct
    engine: {kind: transformers, model: {name: Qwen/Qwen2.5-3B-Instruct}}
  - {name: gpt-4o-mini, engine: {kind: openai, model: gpt-4o-mini}}
  - {name: own, engine: {kind: vllm, model: {name: org/own, dtype: bfloat16}}}
prompts: {path: p.jsonl}
scoring: {quality: {kind: reward_model, model: {name: org/reward}}}
router: {backbone: {name: Qwen/Qwen2.5-1.5B}}
"""


@pytest.fixture
def short(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(SHORT.replace("RUN", str(tmp_path / "run")))
    return path


def test_both_forms_are_the_same_recipe_with_the_same_identities(
    short: Path, tmp_path: Path
) -> None:
    written_out = yaml.safe_load(LONG.replace("RUN", str(tmp_path / "run")))
    pair = [load_recipe(short), parse_recipe(written_out, "test")]
    assert pair[0] == pair[1]
    plans = [planned_steps(recipe, run_of(recipe)) for recipe in pair]
    assert [one.identity for one in plans[0]] == [one.identity for one in plans[1]]
    folders = [[run_of(r).stored_responses(t).address for t in r.teachers] for r in pair]
    assert folders[0] == folders[1]


def test_a_short_recipe_is_the_same_after_a_trip_through_json(short: Path) -> None:
    recipe = load_recipe(short)
    assert parse_recipe(recipe.model_dump(mode="json"), "test") == recipe


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("openai:openai/gpt-4o:free", "gpt-4o-free"),
        ("transformers:package:persyn_ray/lab/assets/weak", "weak"),
        ("vllm:/models/my model/", "my-model"),
        ("vllm:.hidden", "hidden"),
    ],
)
def test_a_teacher_is_named_by_its_model(short: Path, model: str, name: str) -> None:
    assert load_recipe(short, (f"teachers.0={model}",)).pool.names[0] == name


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("vlm:Qwen/x", "such as vllm:Qwen/x"),
        ("gpt-4o-mini", "KIND:MODEL with one of vllm, transformers, openai"),
        ("gpt-4o-mini", "such as vllm:gpt-4o-mini or openai:gpt-4o-mini"),
        ("recorded:answers.jsonl", "other engines need `name` and `engine`"),
        ("openai:", "KIND:MODEL"),
    ],
)
def test_a_teacher_that_one_text_does_not_say_is_refused(
    short: Path, given: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=rf"teachers\.0: .*{says}"):
        load_recipe(short, (f"teachers.0='{given}'",))


def test_the_same_model_twice_needs_names(short: Path) -> None:
    with pytest.raises(ConfigError, match=r"given more than once: \['gpt-4o-mini'"):
        load_recipe(short, ("teachers.0=openai:gpt-4o-mini",))


def test_overrides_reach_below_short_forms(short: Path) -> None:
    given = (
        "student.dtype=bfloat16",
        "router.backbone.revision=main",
        "teachers.0.sampling.max_tokens=7",
        "teachers.own.engine.model.dtype=float16",
        "scoring.quality.model.dtype=bfloat16",
    )
    recipe = load_recipe(short, given)
    assert (recipe.student.name, recipe.student.dtype) == ("Qwen/Qwen2.5-1.5B", "bfloat16")
    assert recipe.router.backbone.revision == "main"
    first, own = recipe.teachers[0], recipe.teachers[3]
    assert (first.name, first.sampling.max_tokens) == ("Qwen2.5-7B-Instruct", 7)
    dumped: dict[str, Any] = own.engine.model_dump()
    assert dumped["model"]["name"] == "org/own"
    assert dumped["model"]["dtype"] == "float16"


@pytest.mark.parametrize("text", [SHORT, LONG])
def test_the_schema_for_editors_takes_both_forms(text: str) -> None:
    schema = json.loads(CliRunner().invoke(app, ["schema"]).stdout)
    validator = Draft202012Validator(schema)
    data = yaml.safe_load(text)
    assert not list(validator.iter_errors(data))
    assert list(validator.iter_errors(data | {"student": {"nam": "x"}}))
    assert list(validator.iter_errors(data | {"student": 3}))
    assert list(validator.iter_errors(data | {"prompts": "p.jsonl"}))
