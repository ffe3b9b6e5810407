"""The report's content, gathered from a finished run, from a bare one, and from odd ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from persyn_ray.pipeline.results.run import gather
from persyn_ray.recipe.recipe import Recipe, parse_recipe
from persyn_ray.report.concerns import concerns
from persyn_ray.report.content import complete, to_json
from persyn_ray.storage.layout import BEFORE, PERSYN, RunLayout

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]
Finished = tuple[Recipe, RunLayout]


@pytest.fixture(scope="module")
def content(finished: Finished) -> dict[str, Any]:
    return gather(*finished, {"persyn-ray": "test"})


def test_a_finished_run_fills_every_section(content: dict[str, Any]) -> None:
    report = complete(content)
    assert {name for name, section in report.items() if section is None} == {
        "constraints",
        "spending",
        "lm_eval",
    }
    assert json.loads(to_json(content)) == report


def test_shares_sum_to_one(content: dict[str, Any]) -> None:
    allocation = content["allocation"]
    spreads = [
        *allocation["methods"].values(),
        *allocation["by_task"].values(),
        allocation["parallel_set_oracle"],
        *(point["shares"] for point in content["alpha_sweep"]["points"]),
    ]
    for spread in spreads:
        assert set(spread) == {"a", "b", "c"}
        assert sum(spread.values()) == pytest.approx(1)


def test_the_oracle_is_without_regret_and_above_every_other_method(
    content: dict[str, Any],
) -> None:
    router = content["router"]
    references = router["references"]
    assert references["oracle"]["regret"]["value"] == 0
    assert references["oracle"]["hit_at_1"]["value"] == 1
    for method, facts in references.items():
        assert facts["reward"]["value"] <= references["oracle"]["reward"]["value"]
        if method != PERSYN:
            gain = references[PERSYN]["reward"]["value"] - facts["reward"]["value"]
            assert router["differences"][method]["value"] == pytest.approx(gain)
    assert references[PERSYN]["regret"] == router["regret"]
    assert (router["heldout_set"], router["num_heldout"]) == ("held-out prompts", 4)


def test_counts_agree_with_the_run(content: dict[str, Any]) -> None:
    assert content["prompts"] == {
        "num_loaded": 24,
        "num_duplicates": 0,
        "num_parallel": 12,
        "num_routed": 8,
        "num_heldout": 4,
    }
    assert content["tokens"]["responses"]["route_then_generate"] == 12 * 3 + 8
    preferences = content["reward"]["preferences"]
    assert preferences["num_pairs"] + preferences["num_ties"] == 12 * 3
    assert content["dead_letters"]["num"] == 0
    assert content["examples"]["methods"][PERSYN]["kept"] == 20
    for facts in content["reward"]["teachers"].values():
        assert (facts["num_truncated"], facts["num_looped"]) == (0, 0)
    student = content["student"]
    assert student["num_problems"] == 2
    assert student["methods"][PERSYN]["num_examples"] == 20
    assert set(student["differences"]) == {BEFORE}


def test_sections_of_steps_not_done_are_empty(make_recipe: Make, carry_out: CarryOut) -> None:
    recipe = make_recipe()
    report = complete(gather(recipe, carry_out(recipe, until="prompts"), {}))
    assert report.pop("problems") == {}
    filled = [name for name, section in report.items() if section is not None]
    assert filled == ["run", "prompts", "timing", "dead_letters"]


def test_a_run_of_one_teacher_without_held_out_prompts_is_reported(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    recipe = make_recipe(
        {
            "teachers": [{"name": "a", "engine": {"kind": "scripted"}}],
            "student.name": random_llama,
            "router.backbone.name": random_llama,
            "prompts.num_heldout": 0,
        }
    )
    run = carry_out(recipe)
    content = gather(recipe, run, {})
    report = complete(content)
    assert report["student"] is None
    assert content["allocation"]["methods"] == {PERSYN: {"a": 1.0}}
    assert content["router"]["regret"]["value"] == 0
    assert content["router"]["heldout_set"] == "router hold-out"
    assert content["reward"]["preferences"]["num_pairs"] == 0


def test_a_teacher_that_can_take_no_prompt_spoils_no_figure_of_the_router(
    make_recipe: Make, carry_out: CarryOut, random_llama: str, tiny_context: str
) -> None:
    tiny = {"kind": "transformers", "model": {"name": tiny_context}}
    recipe = make_recipe(
        {
            "teachers": [
                {"name": "a", "engine": {"kind": "scripted"}},
                {"name": "b", "engine": {"kind": "scripted"}},
                {"name": "c", "engine": tiny, "sampling": {"max_tokens": 2}},
            ],
            "student.name": random_llama,
            "router.backbone.name": random_llama,
            "router.seed": 3,
        }
    )
    run = carry_out(recipe, until="route")
    content = gather(recipe, run, {})
    router = content["router"]
    assert content["reward"]["teachers"]["c"]["num_null"] == 12
    assert content["dead_letters"]["by_teacher"] == {"c": 12}
    # Every method has a known reward on every prompt, as none sends one to the teacher that cannot.
    for facts in router["references"].values():
        assert facts["reward"]["num"] == router["num_heldout"]
    assert np.isfinite(router["regret"]["value"])


def test_several_qualities_are_named_and_give_no_share_of_right_answers(
    finished: Finished, content: dict[str, Any]
) -> None:
    recipe, run = finished
    assert content["run"]["quality_kind"] == "exact_match"
    other = {"kind": "exact_match", "marker": "="}
    parts = [
        {"name": "a", "quality": recipe.scoring.quality.model_dump()},
        {"name": "b", "quality": other},
    ]
    data = recipe.model_dump(mode="json")
    data["scoring"]["quality"] = {"kind": "several", "parts": parts}
    found = gather(parse_recipe(data, "test"), run, {})
    assert found["run"]["quality_kind"] == "exact_match + exact_match"
    assert found["student"]["methods"][PERSYN]["correct_share"] is None
    data["scoring"]["quality"] = {"kind": "reward_model", "model": {"name": "m"}}
    data["evaluate"]["check"] = other
    found = gather(parse_recipe(data, "test"), run, {})
    assert found["student"]["methods"][PERSYN]["correct_share"] is None


def test_the_share_of_right_answers_is_that_of_all_data_or_unknown(
    make_recipe: Make, carry_out: CarryOut, random_llama: str, content: dict[str, Any]
) -> None:
    # Nothing but the parallel set was checked, on which the router was fitted.
    assert content["student"]["methods"][PERSYN]["correct_share"] is None
    models = {"student.name": random_llama, "router.backbone.name": random_llama}
    compare = {"methods": ["random"], "students": True, "heldout": True}
    recipe = make_recipe(models | {"compare": compare})
    run = carry_out(recipe)
    found = gather(recipe, run, {})
    reference = {
        row["prompt_id"]: row["reference"]
        for _, table in run.prompts.tables()
        for row in table.to_pylist()
    }
    for method, facts in found["student"]["methods"].items():
        rows = [row for _, table in run.examples(method).tables() for row in table.to_pylist()]
        said = [row["messages"][-1]["content"].rpartition("####")[2].strip() for row in rows]
        right = [text == reference[row["prompt_id"]] for text, row in zip(said, rows, strict=True)]
        assert len(right) == 20
        assert facts["correct_share"] == pytest.approx(sum(right) / 20)
    # And the oracle stands beside the router without a student of its own.
    assert set(found["router"]["references"]) == {PERSYN, "random", "oracle"}
    assert set(found["student"]["methods"]) == {PERSYN, "random"}


def test_a_parallel_set_of_one_prompt_says_what_is_missing(
    make_recipe: Make, carry_out: CarryOut, random_llama: str
) -> None:
    models = {"student.name": random_llama, "router.backbone.name": random_llama}
    sizes = {"prompts.num_parallel": 1, "prompts.num_heldout": 0}
    recipe = make_recipe(models | sizes, num_prompts=1)
    content = gather(recipe, carry_out(recipe), {})
    assert "raise prompts.num_parallel" in content["problems"]["router"]
    assert content["allocation"]["methods"][PERSYN]


def test_a_pool_that_never_answers_is_reported_with_the_reasons(
    make_recipe: Make, carry_out: CarryOut, random_llama: str, tmp_path: Path
) -> None:
    rows = [{"prompt": f"unknown {n}?", "answer": "1", "task": "t"} for n in range(24)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    models = {"student.name": random_llama, "router.backbone.name": random_llama}
    recipe = make_recipe(models)
    content = gather(recipe, carry_out(recipe), {})
    assert "No routed reward is known" in content["problems"]["router.hedging"]
    assert content["router"]["hit_at_1"]["num"] == 0
    assert content["reward"]["prompts"]["num_rewarded"] == 0
    (failed, *_) = concerns(complete(content))
    assert failed.startswith("Most responses failed: 36 of 36")
