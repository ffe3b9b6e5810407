"""Recipes: what is not understood is refused by its dotted key."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.recipe import load_recipe, parse_recipe

MINIMAL = """
run: runs/x
student: {name: "random:llama"}
teachers:
  - name: a
    engine: &same {kind: transformers, model: {name: big}}
    sampling: &short {max_tokens: 9}
  - {name: b, engine: {<<: *same, batch_size: 3}, sampling: *short}
prompts: {path: p.jsonl, reference_column: answer}
scoring: {quality: {kind: exact_answer}}
router: {backbone: {name: "random:llama"}}
finetune:
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(MINIMAL.replace("finetune:\n", ""))
    return path


def test_the_defaults_are_the_papers_where_it_gives_one(path: Path) -> None:
    recipe = load_recipe(path)
    assert (recipe.scoring.alpha, recipe.prompts.num_parallel) == (0.4, 2500)
    assert recipe.pool.names == ("a", "b")


def test_yaml_anchors_and_merges_are_understood(path: Path) -> None:
    first, second = load_recipe(path).teachers
    assert first.sampling == second.sampling
    assert second.engine.model.name == "big"  # pyright: ignore[reportAttributeAccessIssue]
    assert second.engine.batch_size == 3  # pyright: ignore[reportAttributeAccessIssue]


def test_an_override_of_an_aliased_value_changes_one_place_only(path: Path) -> None:
    first, second = load_recipe(path, ("teachers.0.sampling.max_tokens=5",)).teachers
    assert (first.sampling.max_tokens, second.sampling.max_tokens) == (5, 9)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("scoring.alfa=0.3", "scoring.alfa"),
        ("scoring.alpha=big", "scoring.alpha"),
        ("scoring.alpha=1.5", "scoring.alpha"),
        ("teachers.1.engine.model.nam=x", "teachers.1.engine.transformers.model.nam"),
        ("teachers.0.engine.kind=vvlm", "teachers.0.engine"),
        ("teachers.0.name=a/b", "teachers.0.name"),
        ("steps=3", "steps"),
        ("prompts.num_parallel=0", "prompts.num_parallel"),
        ("compare.methods=[best]", "compare.methods.0"),
        ("student=[x]", "student"),
    ],
)
def test_an_unknown_key_or_bad_value_is_refused_by_its_dotted_key(
    path: Path, override: str, key: str
) -> None:
    with pytest.raises(ConfigError, match=rf"\n  {key}: "):
        load_recipe(path, (override,))


def test_a_password_in_an_address_is_refused_and_not_shown(path: Path) -> None:
    address = "https://ada:hidden@host/v1?token=hidden"
    engine = f"teachers.0.engine={{kind: openai, model: m, base_url: '{address}'}}"
    with pytest.raises(ConfigError, match="api_key_env") as refused:
        load_recipe(path, (engine,))
    assert "hidden" not in str(refused.value)


def test_all_complaints_come_at_once(path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load_recipe(path, ("scoring.alpha=2", "finetune.epoch=1"))
    assert "scoring.alpha" in str(refused.value)
    assert "finetune.epoch" in str(refused.value)


@pytest.mark.parametrize(
    "override",
    [
        "scoring.alpha",
        "=3",
        "scoring.alpha=[",
        "teachers.9.name=x",
        "teachers.first.name=x",
        "teachers.-1.name=x",
        "run.folder=x",
    ],
)
def test_an_override_that_leads_nowhere_is_refused_and_quoted(path: Path, override: str) -> None:
    with pytest.raises(ConfigError, match="Override '"):
        load_recipe(path, (override,))


def test_overrides_are_yaml_and_later_ones_win(path: Path) -> None:
    given = (
        "scoring.alpha=0.1",
        "scoring.alpha=0.2",
        "compare.methods=[random]",
        "prompts.limit=null",
        "finetune.lora={rank: 4}",
    )
    recipe = load_recipe(path, given)
    assert recipe.scoring.alpha == 0.2
    assert recipe.compare.methods == ("random",)
    assert recipe.prompts.limit is None
    assert recipe.finetune.lora is not None
    assert recipe.finetune.lora.rank == 4


def test_an_override_fills_a_section_that_is_left_empty(path: Path) -> None:
    path.write_text(MINIMAL)
    assert load_recipe(path, ("finetune.epochs=7",)).finetune.epochs == 7


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No recipe at"):
        load_recipe(tmp_path / "absent.yaml")


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder: name a recipe"):
        load_recipe(tmp_path)


@pytest.mark.parametrize("text", ["- a\n- b\n", "", "run: [", "just words"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"recipe\.yaml"):
        load_recipe(path)


def test_the_required_sections_are_named_when_missing() -> None:
    with pytest.raises(ConfigError) as refused:
        parse_recipe({"run": "x"}, "test")
    for key in ("student", "teachers", "prompts", "scoring", "router"):
        assert f"\n  {key}: " in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teachers": []}, "no teachers"),
        ({"compare": {"strong": "z"}}, "compare.strong is 'z'"),
        ({"prompts": {"path": "p.jsonl"}}, "prompts.reference_column"),
        ({"compare": {"heldout": True}}, "prompts.num_heldout or evaluate.path"),
        (
            {"resources": {"finetune": {"workers": [1, 4]}}},
            r"workers \[1, 4\] needs finetune.deepspeed zero0, not zero2",
        ),
        (
            {
                "resources": {"finetune": {"workers": [2, 3]}},
                "finetune": {"deepspeed": "zero0"},
            },
            "batch_size 32 is no multiple of finetune.micro_batch_size 4 x 3",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_recipe(yaml.safe_load(MINIMAL.replace("finetune:\n", "")) | changes, "test")


def test_checked_evaluation_needs_references() -> None:
    data = yaml.safe_load(MINIMAL.replace("finetune:\n", ""))
    data["scoring"] = {"quality": {"kind": "reward_model", "model": {"name": "judge"}}}
    data["prompts"] = {"path": "p.jsonl"}
    parse_recipe(data, "test")
    with pytest.raises(ConfigError, match=r"evaluate\.check needs prompts\.reference_column"):
        parse_recipe(data | {"evaluate": {"check": {"kind": "exact_match"}}}, "test")


def test_two_teachers_of_one_name_are_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"more than once: \['a'\]"):
        load_recipe(path, ("teachers.1.name=a",))


def test_a_recipe_is_the_same_after_a_trip_through_json(path: Path) -> None:
    recipe = load_recipe(path)
    assert parse_recipe(recipe.model_dump(mode="json"), "test") == recipe
