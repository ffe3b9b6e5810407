"""The lab's problems: answers recomputed independently, determinism, what the surface tells."""

import json
import re

import pytest

from persyn_ray.lab import tasks
from persyn_ray.lab.build import ASSETS


def _recompute(prompt: str, task: str) -> str:
    """Solve a prompt from its text alone, by other means than the module's."""
    if task == "rev":
        word = re.sub(r"^(take|find|order:) ", "", prompt)
        word = re.sub(r"^(rev|flip) |( backwards|: rev)$", "", word)
        return word[::-1]
    numbers = [int(digits) for digits in re.findall(r"\d+", prompt)]
    if task == "add":
        total = 0
        for number in numbers:
            total += number
        return str(total)
    while numbers != sorted(numbers):
        for i in range(len(numbers) - 1):
            if numbers[i] > numbers[i + 1]:
                numbers[i], numbers[i + 1] = numbers[i + 1], numbers[i]
    return str(numbers[-1]) if task == "max" else " ".join(map(str, numbers))


def test_same_seed_same_problems_and_another_seed_others():
    assert tasks.generate(50, seed=3) == tasks.generate(50, seed=3)
    assert tasks.generate(50, seed=3) != tasks.generate(50, seed=4)


def test_generate_honours_exclude_and_repeats_no_prompt():
    first = tasks.generate(400, seed=0)
    second = tasks.generate(400, seed=0, exclude={problem.prompt for problem in first})
    prompts = [problem.prompt for problem in [*first, *second]]
    assert len(set(prompts)) == 800


@pytest.mark.parametrize("style", ["terse", "named", "steps", "long"])
@pytest.mark.parametrize("task", tasks.TASKS)
def test_every_style_ends_with_the_recomputed_answer(task: str, style: str):
    problems = [problem for problem in tasks.generate(400, seed=7) if problem.task == task]
    for problem in problems:
        expected = _recompute(problem.prompt, task)
        assert problem.reference == expected
        assert tasks.check(tasks.STYLES[style](problem), expected)


def test_careless_answers_are_mostly_wrong():
    problems = tasks.generate(400, seed=8)
    right = [tasks.check(tasks.careless(problem), problem.reference) for problem in problems]
    assert 0 < sum(right) < 0.25 * len(problems)


def test_steps_of_an_addition_are_true_sums():
    for problem in tasks.generate(200, seed=1):
        if problem.task == "add":
            for step in tasks.steps(problem).rpartition("#")[0].split(";"):
                left, _, right = step.partition("=")
                assert sum(map(int, left.split("+"))) == int(right)


def test_difficulty_counts_items_and_covers_the_range():
    seen = {task: set() for task in tasks.TASKS}
    for problem in tasks.generate(800, seed=2):
        assert problem.difficulty == len(problem.items)
        seen[problem.task].add(problem.difficulty)
    assert {t: (min(s), max(s)) for t, s in seen.items()} == tasks.DIFFICULTIES


@pytest.mark.parametrize(
    ("response", "reference", "right"),
    [
        ("#8", "8", True),
        ("5+3=8#8", "8", True),
        ("#9#8", "8", True),
        ("#8#9", "8", False),
        ("8", "8", False),
        ("#80", "8", False),
        ("#1 3 8", "1 3 8", True),
        ("#138", "1 3 8", False),
        ("", "8", False),
    ],
)
def test_check_reads_what_follows_the_last_mark(response: str, reference: str, right: bool):
    assert tasks.check(response, reference) is right


def test_no_opening_belongs_to_one_family_alone():
    families: dict[str, set[str]] = {}
    for problem in tasks.generate(2000, seed=5):
        families.setdefault(problem.prompt.split(" ")[0], set()).add(problem.task)
    for opening in ("take", "find", "order:"):
        assert families[opening] == set(tasks.TASKS)


def _rows(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (ASSETS / name).read_text().splitlines()]


def test_shipped_prompt_sets_are_right_distinct_and_disjoint():
    train, heldout = _rows("prompts.jsonl"), _rows("heldout.jsonl")
    assert len(train) >= 3000
    assert len(heldout) >= 600
    for row in [*train, *heldout]:
        assert row["reference"] == _recompute(str(row["prompt"]), str(row["task"]))
    prompts = {row["prompt"] for row in train}
    held = {row["prompt"] for row in heldout}
    assert len(prompts) == len(train)
    assert len(held) == len(heldout)
    assert not prompts & held


def test_a_prompt_is_read_as_the_problem_it_was_drawn_from():
    for problem in tasks.generate(2000, seed=9):
        assert tasks.read(problem.prompt) == problem


@pytest.mark.parametrize(
    "text", ["", "sum", "sum a b", "rev 12", "sum 1 2 please", "now sum 1 2", "sum 1+2", "2+x"]
)
def test_what_is_no_prompt_of_the_lab_is_no_problem(text: str):
    assert tasks.read(text) is None
