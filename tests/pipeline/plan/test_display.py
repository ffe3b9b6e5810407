"""The plan as it is printed: all that it knows, within a narrow terminal."""

from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from persyn_ray.pipeline.plan.display import show
from persyn_ray.pipeline.plan.plan import plan_run
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.layout import RunLayout

OnGpus = Callable[..., Recipe]
Make = Callable[..., Recipe]
ONE_SLOT = {"max_num_seqs": 1}
FIXED = {
    "resources": {
        "tokens_per_second": 10.0,
        "load_seconds": 30.0,
        "replicas": 1,
        "arguments": ONE_SLOT,
    }
}


def printed(recipe: Recipe, width: int = 80) -> list[str]:
    console = Console(width=width, record=True, quiet=False, file=None, force_terminal=False)
    with console.capture() as capture:
        show(plan_run(recipe), console)
    return capture.get().replace("\N{NO-BREAK SPACE}", " ").splitlines()


def row(lines: list[str], title: str, name: str) -> list[str]:
    """The cells of a row of the table below a title."""
    start = next(number for number, line in enumerate(lines) if line.startswith(title))
    found = next(line for line in lines[start:] if line.split("│")[0].strip() == name)
    return [cell.strip() for cell in found.split("│")]


def test_a_recipe_without_gpus_is_told_nothing_of_gpus(make_recipe: Make) -> None:
    lines = printed(make_recipe())
    text = "\n".join(lines)
    assert row(lines, "Teachers", "a") == ["a", "12", "3", "≤ 7,509"]
    for word in ("GPU", "Memory", "Waves", "$", "time"):
        assert word not in text
    assert row(lines, "In all", "generate-then-select")[1:] == ["60", "≤ 30.7 k"]
    assert max(map(len, lines)) <= 80


def test_memory_waves_tokens_time_and_money_are_printed(on_gpus: OnGpus) -> None:
    recipe = on_gpus({"first": FIXED, "second": FIXED | {"price": {"response": 2.0}}})
    lines = printed(recipe)
    memory = row(lines, "Memory on 1 node x 8 GPUs of 80 GiB", "first")
    assert memory == ["first", "15.0", "18.0/72", "1", "1", "1", "10"]
    teacher = row(lines, "Teachers", "first")
    # 12 + 4 prompts x 100 tokens at 10 a second, and loading twice; $2 an hour.
    assert teacher == ["first", "12", "4", "≤ 1,600", "3.7 min", "0.1", "0.12"]
    waves = [line for line in lines if "node: GPUs" in line]
    assert len(waves) == 2
    assert any(line.startswith("Waves of synthesize") for line in lines)
    assert row(lines, "In all", "route-then-generate")[1:3] == ["32", "≤ 3,200"]
    assert max(map(len, lines)) <= 80


def test_long_names_and_many_nodes_stay_within_a_hundred_columns(on_gpus: OnGpus) -> None:
    across = {"tensor_parallel": 8, "pipeline_parallel": 2, "across_nodes": True}
    recipe = on_gpus(
        {"a-teacher-with-a-rather-long-name": {"resources": across}}, {"hardware.nodes": 2}
    )
    lines = printed(recipe, 100)
    assert max(map(len, lines)) <= 100
    assert any("0: 0–7; 1: 0–7" in line for line in lines)
    assert any("8 x 2" in line for line in lines)


def test_a_finished_run_has_nothing_to_write(finished: tuple[Recipe, RunLayout]) -> None:
    lines = printed(finished[0])
    assert "Teachers: everything is written." in lines
    assert row(lines, "In all", "route-then-generate")[1] == "56"


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"hardware.nodes": 0}, "give --cluster NODESxGPUSxGIB"),
        ({"prompts.path": "hub:nobody/nothing", "prompts.limit": 50}, "counted as the recipe says"),
    ],
)
def test_notes_say_what_is_missing(on_gpus: OnGpus, changes: dict[str, Any], hint: str) -> None:
    assert hint in " ".join(" ".join(printed(on_gpus({"a": {}}, changes))).split())
