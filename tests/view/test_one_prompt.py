"""One prompt: texts in their parts, scores of the very response, and why it went where it went."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.schemas import ASSIGNMENT
from persyn_ray.view.prompts.response_text import loop_start, shown_text

from . import planting
from .conftest import getter

TAGS = ("<think>", "</think>")
SHARD = "shard-000000.parquet"


@pytest.fixture
def run(tmp_path: Path) -> RunLayout:
    prompts = [{"id": f"x/{n}", "text": f"No. {n}"} for n in range(3)]
    return planting.planted(str(tmp_path / "run"), prompts)


def test_an_id_with_a_slash_is_found_and_an_unknown_one_is_not(run: RunLayout) -> None:
    get = getter(run.root.address)
    assert get("/api/prompts/x%2F1")["messages"] == [{"role": "user", "content": "No. 1"}]
    assert "No prompt 'x/9' in this run" in get("/api/prompts/x%2F9", 404)["error"]


def test_thinking_is_parted_from_the_answer(run: RunLayout) -> None:
    planting.respond(run, 0, SHARD, {"x/0": "<think>hm, 2</think>\n\nIt is 2."})
    first, second = getter(run.root.address)("/api/prompts/x/0")["responses"]
    assert (first["thinking"], first["text"]) == ("hm, 2", "It is 2.")
    assert (second["text"], second["finish_reason"], second["quality"]) == (None, None, None)


@pytest.mark.parametrize(
    ("response", "thinking", "text"),
    [
        ("It is 2.", None, "It is 2."),
        ("hm</think>2", "hm", "2"),
        ("<think>hm, and then", "hm, and then", ""),
        ("<think>a</think>b<think>c</think>d", "a</think>b<think>c", "d"),
        ("", None, ""),
    ],
)
def test_parts_of_odd_responses(response: str, thinking: str | None, text: str) -> None:
    shown = shown_text(response, TAGS, 4)
    assert (shown.thinking, shown.text) == (thinking, text)


def test_a_loop_begins_where_the_text_begins_to_repeat_itself() -> None:
    text = "First  we add.\n" + "And so on and on. " * 20
    start = loop_start(text, 4)
    assert start is not None
    assert text[start:].lstrip(". \n").startswith("And so on and on. And so on")
    assert len("First  we") < start <= len("First  we add.\n")
    assert loop_start("First we add. Then we stop.", 4) is None
    assert loop_start(text, None) is None
    circle = "so " * 100
    assert loop_start(circle, 4) == 0


def test_a_response_that_was_cut_or_loops_says_so(run: RunLayout) -> None:
    looped = {"response": "Well: " + "again and again, " * 30, "finish_reason": "loop"}
    cut = {"response": "and so", "finish_reason": "length"}
    planting.respond(run, 0, SHARD, {"x/0": looped})
    planting.respond(run, 1, SHARD, {"x/0": cut})
    first, second = getter(run.root.address)("/api/prompts/x/0")["responses"]
    assert first["is_cut"]
    assert second["is_cut"]
    assert first["text"][first["loop_start"] :].startswith("again and")
    assert second["loop_start"] is None


def test_a_score_of_other_words_is_not_shown(run: RunLayout) -> None:
    said = planting.respond(run, 0, SHARD, {"x/0": "two"})
    planting.score(run, 0, SHARD, said, log_likelihood=-1.5, lowest_window=-4.0)
    get = getter(run.root.address)
    first = get("/api/prompts/x/0")["responses"][0]
    assert (first["quality"], first["quality_outcome"]) == (1.0, "correct")
    assert (first["learnability"], first["lowest_window"]) == (-1.5, -4.0)
    planting.respond(run, 0, SHARD, {"x/0": "three"})
    first = get("/api/prompts/x/0")["responses"][0]
    assert (first["text"], first["quality"], first["learnability"]) == ("three", None, None)


THOUGHT = "<think>Hm, é is 2. Or is it?</think>\n\nAs one sees, it is 2."


@pytest.mark.parametrize(
    ("response", "words", "thinking", "text"),
    [
        (THOUGHT, "é is 2", "é is 2", None),
        (THOUGHT, "sees, it", None, "sees, it"),
        (THOUGHT, "is it?</think>\n\nAs one", "is it?", "As one"),
        (THOUGHT, THOUGHT, None, None),  # whole: a mark would tell nothing
        (THOUGHT, "As one sees, it is 2.", None, None),
        (f"{THOUGHT}\n ", "As one sees, it is 2.\n", None, None),
        ("It is, as one sees, 2.", "as one", None, "as one"),
        ("<think>Hm, and then", "and", "and", None),
    ],
)
def test_the_least_likely_stretch_is_in_the_part_where_it_lies(
    run: RunLayout, response: str, words: str, thinking: str | None, text: str | None
) -> None:
    said = planting.respond(run, 0, SHARD, {"x/0": response})
    start = response.rindex(words)
    places = {"lowest_start": start, "lowest_end": start + len(words)}
    planting.score(run, 0, SHARD, said, lowest_window=-4.0, **places)
    found = getter(run.root.address)("/api/prompts/x/0")["responses"][0]
    for part, expected in (("thinking", thinking), ("text", text)):
        span = found["lowest_span" if part == "text" else f"{part}_lowest_span"]
        assert (None if span is None else found[part][slice(*span)]) == expected


def test_a_stretch_whose_place_is_unknown_is_not_marked(run: RunLayout) -> None:
    said = planting.respond(run, 0, SHARD, {"x/0": "two"})
    planting.score(run, 0, SHARD, said, lowest_window=-4.0)
    found = getter(run.root.address)("/api/prompts/x/0")["responses"]
    assert [one["lowest_span"] for one in found] == [None, None]


def test_of_two_parts_the_first_that_is_no_failure_counts(run: RunLayout) -> None:
    failed = {"finish_reason": "error", "error": "refused"}
    planting.respond(run, 0, "shard-000000.0001-x.parquet", {"x/0": failed, "x/1": failed})
    planting.respond(run, 0, "shard-000000.0002-x.parquet", {"x/0": "two"})
    planting.respond(run, 0, "shard-000000.0003-x.parquet", {"x/0": "three"})
    get = getter(run.root.address)
    assert get("/api/prompts/x/0")["responses"][0]["text"] == "two"
    second = get("/api/prompts/x/1")["responses"][0]
    assert (second["text"], second["error"]) == (None, "refused")
    get("/api/prompts", flag="cut")
    first = get("/api/now")["teachers"][0]
    assert (first["answered"], first["failed"]) == (1, 1)


def test_why_a_prompt_went_to_its_teacher(run: RunLayout) -> None:
    get = getter(run.root.address)
    assert get("/api/prompts/x/0")["why"].startswith("Not routed yet")
    planting.assign(run, SHARD, {"x/0": ("a", 2.0), "x/1": ("b", 0.2), "x/2": ("a", 0.0)})
    clear, close, drawn = (get(f"/api/prompts/x/{n}") for n in range(3))
    assert "learn most from a: it beats b, the next best, with a probability of 88%" in clear["why"]
    assert close["why"].endswith("That is a close call.")
    assert "equally good; a seeded draw decided for a" in drawn["why"]
    assert clear["responses"][0]["probability"] == pytest.approx(0.8808, abs=1e-4)
    assert clear["methods"]["persyn"] == "a"


def test_why_it_went_to_another_than_the_router_prefers(run: RunLayout) -> None:
    planting.assign(run, SHARD, {"x/0": ("a", 2.0), "x/1": ("a", 1.0)})
    rows = [{"prompt_id": "x/0", "teacher": "b", "margin": -2.0}]
    rows += [{"prompt_id": "x/1", "teacher": "b", "margin": -1.0}]
    planting.write(run.assignment("persyn"), SHARD, rows, ASSIGNMENT)
    within: dict[str, Any] = {"prompt_id": "x/0", "teacher": "b", "margin": None}
    planting.write(run.within_limits, SHARD, [within], ASSIGNMENT)
    planting.respond(run, 0, SHARD, {"x/1": {"response": "…", "finish_reason": "length"}})
    get = getter(run.root.address)
    assert "prefers a by 2.00 logits, but the limits" in get("/api/prompts/x/0")["why"]
    assert "its response was cut, so b was asked next" in get("/api/prompts/x/1")["why"]


def test_the_router_that_decides_is_named_and_why_auto_has_taken_it(run: RunLayout) -> None:
    get = getter(run.root.address)
    assert get("/api/run")["router"] is None
    planting.record(run, "router", {"rows": 3, "kind": "per_task", "why": "per_task routes best"})
    shown = getter(run.root.address)
    named = {"kind": "per_task", "label": "best teacher per task, shrunk"}
    assert shown("/api/run")["router"] == named | {"why": "per_task routes best"}
    notes = {step["name"]: step["note"] for step in shown("/api/now")["steps"]}
    assert notes.pop("router") == "best teacher per task, shrunk, chosen by router.kind: auto"
    assert set(notes.values()) == {None}
    planting.record(run, "router", {"rows": 3})  # of the recipe's own kind, which is not said
    fitted = {"kind": "fitted", "label": "fitted router", "why": None}
    assert getter(run.root.address)("/api/run")["router"] == fitted


def test_a_held_out_prompt_that_nobody_is_asked_is_not_said_to_wait(tmp_path: Path) -> None:
    prompts = [{"id": "h", "text": "No. 1", "split": "heldout"}, {"id": "r", "text": "No. 2"}]
    get = getter(planting.planted(str(tmp_path / "run"), prompts).root.address)
    assert get("/api/prompts/h")["why"].startswith("Held out for evaluation")
    assert get("/api/prompts/r")["why"].startswith("Not routed yet")


def test_a_table_by_task_chooses_by_the_prompts_own_task(
    make_recipe: Callable[..., Recipe], carry_out: Callable[..., RunLayout], random_llama: str
) -> None:
    methods = {"compare.methods": ["task_constant"], "compare.heldout": True}
    models = {"student.name": random_llama, "router.backbone.name": random_llama}
    sizes = {"prompts.num_parallel": 60, "prompts.num_heldout": 16, "prompts.shard_rows": 40}
    recipe = make_recipe(methods | models | sizes, num_prompts=80)
    run = carry_out(recipe, until="route")
    rewards: dict[str, list[list[float]]] = {}
    for shard in shards_of(run, "parallel"):
        prompts = {row["prompt_id"]: row for row in run.prompts.read_table(shard).to_pylist()}
        for row in run.rewards.read_table(shard).to_pylist():
            rewards.setdefault(prompts[row["prompt_id"]]["task"], []).append(row["rewards"])
    means = {task: np.mean(of, axis=0) for task, of in rewards.items()}
    clear = {  # no shrinking towards the means of all tasks changes these
        task: recipe.pool.names[int(of.argmax())]
        for task, of in means.items()
        if np.ptp(np.sort(of)[-2:]) > 0.1
    }
    assert len(set(clear.values())) > 1
    get = getter(run.root.address)
    shown = [get(f"/api/prompts/{row['prompt_id']}") for row in rows_in(run, "heldout")]
    assert len(shown) == 16
    asked = {one["task"]: one["methods"]["task_constant"] for one in shown if one["task"] in clear}
    assert asked == clear


def rows_in(run: RunLayout, split: str) -> list[dict[str, Any]]:
    return [
        row for shard in shards_of(run, split) for row in run.prompts.read_table(shard).to_pylist()
    ]
