"""Prompts that a model's chat template refuses: known in step prompts, before a teacher is paid."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.models.load import load_tokenizer
from persyn_ray.models.router.model import build_router, save_router
from persyn_ray.pipeline.load_prompts import write_prompts
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.layout import RunLayout, run_of

from ..conftest import planted_rows

Make = Callable[..., Recipe]
Messages = list[dict[str, str]]
TEMPLATES = Path(__file__).parents[1] / "templates"
REWARD_MODEL = {"kind": "reward_model", "model": {"name": "random:reward"}}
PLAIN = {
    "prompts.column": "messages",
    "prompts.reference_column": None,
    "prompts.task_column": None,
    "prompts.num_parallel": 2,
    "prompts.num_heldout": 0,
    "scoring.quality": REWARD_MODEL,
}


def template(name: str) -> str:
    """A family's template, ending turns by the control token of the models here."""
    text = (TEMPLATES / f"{name}.jinja").read_text()
    return text.replace("<end_of_turn>", "<|im_end|>")


ALTERNATING = template("mistral_v0.1")


def talk(*turns: str) -> Messages:
    """Turns given as `role: content`."""
    parts = [turn.partition(": ") for turn in turns]
    return [{"role": role, "content": content} for role, _, content in parts]


GOOD = [talk(f"user: {row['prompt']}") for row in planted_rows(5)]
TWO_IN_A_ROW = talk("user: Hello?", "user: Name a prime between 20 and 30.")


def recipe_over(
    make: Make, folder: Path, conversations: list[Messages], changes: dict[str, Any]
) -> Recipe:
    path = folder / "messages.jsonl"
    path.write_text("".join(json.dumps({"messages": one}) + "\n" for one in conversations))
    return make(PLAIN | {"prompts.path": str(path)} | changes)


def letters(run: RunLayout) -> list[dict[str, Any]]:
    return [row for _, t in run.dead_letters("prompts").tables() for row in t.to_pylist()]


@pytest.mark.parametrize(
    ("setting", "called"),
    [
        ("student.chat_template", "student 'random:llama'"),
        ("router.backbone.chat_template", "router.backbone 'random:llama'"),
        (
            "scoring.quality.model.chat_template",
            "scoring.quality.model 'random:reward'",
        ),
    ],
)
def test_a_prompt_that_one_model_cannot_read_is_a_dead_letter_that_names_it(
    make_recipe: Make, tmp_path: Path, setting: str, called: str
) -> None:
    quality = {"kind": "reward_model", "model": {"name": "random:reward"}}
    changes = {"scoring.quality": quality, setting: ALTERNATING}
    recipe = recipe_over(make_recipe, tmp_path, [*GOOD, TWO_IN_A_ROW], changes)
    counts = write_prompts(recipe, run := run_of(recipe))
    assert (counts.rows, counts.errors) == (5, 1)
    (letter,) = letters(run)
    assert (letter["step"], letter["reason"]) == ("prompts", "unreadable_prompt")
    assert f"messages.jsonl: {called} cannot read it: The chat template" in letter["detail"]
    assert "Conversation roles must alternate" in letter["detail"]


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("mistral_v0.1", talk("system: Be brief.", "user: Hi")),
        ("gemma2", talk("system: Be brief.", "user: Hi")),
        ("gemma3", talk("user: Hi", "assistant: Yes?", "assistant: Well?", "user: And?")),
        ("mistral_v0.3", talk("assistant: Hello!", "user: Hi")),
        # It drops the system turn once the conversation is answered.
        ("mistral_v0.3", talk("system: Be brief.", "user: Hi")),
    ],
)
def test_templates_of_real_families_lose_the_rows_they_refuse_and_no_other(
    make_recipe: Make, tmp_path: Path, name: str, bad: Messages
) -> None:
    changes = {"student.chat_template": template(name)}
    recipe = recipe_over(make_recipe, tmp_path, [*GOOD, bad], changes)
    counts = write_prompts(recipe, run_of(recipe))
    assert (counts.rows, counts.errors) == (5, 1)


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.content.missing.deeper }}{% endfor %}",  # undefined
        "{{ 1 // (messages | length - 2) }}",  # fails for one conversation of two turns
        "{{ messages[1].content + '' }}",
        "{% if messages | length > 1 %}{{ raise_exception('one turn only') }}{% endif %}x",
        "{% for m in messages %}{{ m.content | int + 'x' }}{% endfor %}",
    ],
)
def test_however_a_template_fails_it_is_one_sentence(
    make_recipe: Make, tmp_path: Path, template: str
) -> None:
    """Of the student, which is asked for an answered conversation too, they take none."""
    changes = {"student.chat_template": template}
    recipe = recipe_over(make_recipe, tmp_path, GOOD, changes)
    with pytest.raises(
        ConfigError, match=r"^student: The chat template of .*`chat_template` on the model"
    ):
        write_prompts(recipe, run_of(recipe))


def test_a_template_that_refuses_every_prompt_ends_the_run_before_it_costs_anything(
    make_recipe: Make, tmp_path: Path
) -> None:
    refuses = "{{ raise_exception('Only documents are supported!') }}"
    changes = {"router.backbone.chat_template": refuses}
    recipe = recipe_over(make_recipe, tmp_path, GOOD, changes)
    wanted = r"Of 5 prompts in .*messages.jsonl' not one .*router.backbone.*Only documents are"
    with pytest.raises(ConfigError, match=wanted):
        write_prompts(recipe, run_of(recipe))


def test_models_that_refuse_different_prompts_until_none_is_left(
    make_recipe: Make, tmp_path: Path
) -> None:
    needs_system = (
        "{% if messages[0].role != 'system' %}{{ raise_exception('No system turn!') }}{% endif %}x"
    )
    changes = {
        "student.chat_template": template("gemma2"),
        "router.backbone.chat_template": needs_system,
    }
    both = [*GOOD, talk("system: Be brief.", "user: Hi")]
    recipe = recipe_over(make_recipe, tmp_path, both, changes)
    with pytest.raises(ConfigError, match=r"Of 6 prompts .* not one can be read by all"):
        write_prompts(recipe, run_of(recipe))


def test_held_out_problems_in_a_file_of_their_own_are_tried_too(
    make_recipe: Make, tmp_path: Path
) -> None:
    apart = tmp_path / "apart.jsonl"
    rows = [talk("user: Held out?"), TWO_IN_A_ROW]
    apart.write_text("".join(json.dumps({"messages": one}) + "\n" for one in rows))
    changes = {"student.chat_template": ALTERNATING, "evaluate.path": str(apart)}
    recipe = recipe_over(make_recipe, tmp_path, GOOD, changes)
    counts = write_prompts(recipe, run := run_of(recipe))
    assert counts.splits == {"parallel": 2, "heldout": 1, "routed": 3}
    assert ["apart.jsonl" in letter["detail"] for letter in letters(run)] == [True]


def test_a_router_that_is_extended_is_asked_in_place_of_the_backbone(
    make_recipe: Make, tmp_path: Path, random_llama: str
) -> None:
    tokenizer = load_tokenizer(random_llama, chat_template=ALTERNATING)
    save_router(build_router(random_llama, ("a", "b")), tokenizer, tmp_path / "old")
    changes = {
        "router.extend": str(tmp_path / "old"),
        "router.backbone.name": "never-loaded",
    }
    recipe = recipe_over(make_recipe, tmp_path, [*GOOD, TWO_IN_A_ROW], changes)
    counts = write_prompts(recipe, run := run_of(recipe))
    assert (counts.rows, counts.errors) == (5, 1)
    assert letters(run)[0]["detail"].startswith("messages.jsonl: router.extend ")


def test_a_backbone_that_only_embeds_is_asked_as_well(
    make_recipe: Make, tmp_path: Path, random_llama: str
) -> None:
    tokenizer = load_tokenizer(random_llama)
    save_router(build_router(random_llama, ("a", "b")), tokenizer, tmp_path / "old")
    changes = {
        "router.extend": str(tmp_path / "old"),
        "router.backbone.chat_template": ALTERNATING,
        "compare.methods": ["knn"],
    }
    recipe = recipe_over(make_recipe, tmp_path, [*GOOD, TWO_IN_A_ROW], changes)
    write_prompts(recipe, run := run_of(recipe))
    assert letters(run)[0]["detail"].startswith("messages.jsonl: router.backbone ")


def test_a_student_without_a_chat_template_is_refused_before_it_costs_anything(
    make_recipe: Make, tmp_path: Path
) -> None:
    changes = {"student.chat_template": ""}
    recipe = recipe_over(make_recipe, tmp_path, GOOD, changes)
    with pytest.raises(ConfigError, match=r"has no chat template: set `chat_template`"):
        write_prompts(recipe, run_of(recipe))


@pytest.mark.parametrize(
    ("setting", "value", "called"),
    [
        ("student.name", "no/such/model", "student"),
        ("router.backbone.name", "/no/such/model", "router.backbone"),
        ("router.extend", "/no/such/router", "router.extend"),
        ("scoring.quality.model.name", "/no/such/model", "scoring.quality.model"),
    ],
)
def test_a_model_that_is_not_there_is_named_with_its_setting_before_it_costs_anything(
    make_recipe: Make, tmp_path: Path, setting: str, value: str, called: str
) -> None:
    quality = {"kind": "reward_model", "model": {"name": "random:reward"}}
    changes = {"scoring.quality": quality, setting: value}
    recipe = recipe_over(make_recipe, tmp_path, GOOD, changes)
    with pytest.raises(ConfigError, match=f"^{called}: .*/no/such|^{called}: .*no/such"):
        write_prompts(recipe, run_of(recipe))


def test_one_bad_row_goes_through_all_steps_and_the_responses_of_others_stay(
    make_recipe: Make,
    carry_out: Callable[..., RunLayout],
    tmp_path: Path,
    random_llama: str,
) -> None:
    changes = {
        "student.name": random_llama,
        "router.backbone.name": random_llama,
        "student.chat_template": ALTERNATING,
        "router.heldout_fraction": 0.5,
    }
    recipe = recipe_over(make_recipe, tmp_path, [*GOOD, TWO_IN_A_ROW], changes)
    run = carry_out(recipe, until="synthesize")
    examples = [row for _, t in run.examples("persyn").tables() for row in t.to_pylist()]
    assert len(examples) == 5
    # Another student that reads them all: no response of a prompt that stays is asked for again.
    asked = run.sharding
    changes = changes | {"student.chat_template": None}
    again = carry_out(
        recipe_over(make_recipe, tmp_path, [*GOOD, TWO_IN_A_ROW], changes), until="prompts"
    )
    assert run_of(recipe).prompts.names() == again.prompts.names()
    assert again.sharding != asked


def test_prompts_in_the_same_shards_find_their_responses_whatever_else_changes(
    make_recipe: Make, tmp_path: Path, carry_out: Callable[..., RunLayout], random_llama: str
) -> None:
    first = carry_out(recipe_over(make_recipe, tmp_path, GOOD, {}), until="prompts").sharding
    changes = {"student.name": random_llama}
    assert (
        carry_out(recipe_over(make_recipe, tmp_path, GOOD, changes), until="prompts").sharding
        == first
    )
    changes = {"prompts.num_parallel": 3}
    other = carry_out(recipe_over(make_recipe, tmp_path, GOOD, changes), until="prompts")
    assert other.sharding != first
