"""The lab's problems: four families with exactly checkable answers, and ways of writing a solution.

A prompt is one line of characters; a response ends with '#' and the answer. The phrasings share
openings across families, so that the first word does not tell what is asked, and every family runs
from easy to hard (`difficulty`: how many numbers or letters). Styles differ in length and working,
not in the answer; which style a model writes is its own habit (see `build.py`).
"""

import random
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

# Smallest and largest difficulty of each family.
DIFFICULTIES = {"add": (2, 6), "sort": (3, 5), "rev": (3, 7), "max": (3, 6)}
TASKS = tuple(DIFFICULTIES)

# An item up to this difficulty counts as easy: the weak generalist is mostly right there.
EASY = {"add": 3, "sort": 3, "rev": 4, "max": 4}

_OPENINGS = ("", "", "take ", "find ", "order: ")
_PHRASINGS = {
    "add": (
        "sum {spaced}",
        "add {spaced}",
        "{plus}",
        "{plus}",
        "total of {spaced}",
        "{spaced}: sum",
    ),
    "sort": ("sort {spaced}", "order {spaced}", "low to high {spaced}", "{spaced}: sort"),
    "rev": ("rev {word}", "flip {word}", "{word} backwards", "{word}: rev"),
    "max": ("max {spaced}", "max of {spaced}", "top of {spaced}", "{spaced}: max"),
}
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_ITEMS = {
    "spaced": r"(?P<items>\d+(?: \d+)*)",
    "plus": r"(?P<items>\d+(?:\+\d+)*)",
    "word": "(?P<items>[a-z]+)",
}
_FORMS = [
    (task, re.compile(f"(?:{'|'.join(_OPENINGS[1:])})?{phrasing.format_map(_ITEMS)}"))
    for task, phrasings in _PHRASINGS.items()
    for phrasing in dict.fromkeys(phrasings)
]


@dataclass(frozen=True)
class Problem:
    """One problem: what is asked, its family, the right answer and how many items it has."""

    prompt: str
    task: str
    reference: str
    difficulty: int
    items: tuple[str, ...]


def draw(rng: random.Random, task: str, hardest: int | None = None) -> Problem:
    """Draw one problem of `task`, no harder than `hardest`."""
    low, high = DIFFICULTIES[task]
    difficulty = rng.randint(low, min(high, hardest or high))
    items = _draw_items(rng, task, difficulty)
    phrasing = rng.choice(_OPENINGS) + rng.choice(_PHRASINGS[task])
    prompt = phrasing.format(spaced=" ".join(items), plus="+".join(items), word="".join(items))
    return Problem(prompt, task, _solve(task, items), difficulty, items)


def generate(num: int, seed: int, exclude: Collection[str] = frozenset()) -> list[Problem]:
    """Draw `num` problems, prompts all different and none in `exclude`; the families take turns."""
    rng = random.Random(f"problems-{seed}")
    seen, problems = set(exclude), []
    while len(problems) < num:
        problem = draw(rng, TASKS[len(problems) % len(TASKS)])
        if problem.prompt not in seen:
            seen.add(problem.prompt)
            problems.append(problem)
    return problems


def read(prompt: str) -> Problem | None:
    """Find the problem that a prompt states; None for a text that is no prompt of the lab."""
    for task, form in _FORMS:
        if found := form.fullmatch(prompt):
            items = tuple(found["items"] if task == "rev" else re.split(r"[ +]", found["items"]))
            return Problem(prompt, task, _solve(task, items), len(items), items)
    return None


def check(response: str, reference: str) -> bool:
    """Whether what stands after the last '#' is the reference."""
    _, mark, answer = response.rpartition("#")
    return bool(mark) and answer.strip() == reference


def terse(problem: Problem) -> str:
    """Write the answer alone: '#8'."""
    return f"#{problem.reference}"


def named(problem: Problem) -> str:
    """Write what was done, then the answer: 'max#9'."""
    return f"{problem.task}#{problem.reference}"


def steps(problem: Problem) -> str:
    """Write the working, then the answer: '5+0=5;5+3=8#8'."""
    return f"{';'.join(_working(problem))}#{problem.reference}"


def long_winded(problem: Problem) -> str:
    """Restate the items, write the working, check, answer: 'max of 3,9: 3; 9; check 9#9'."""
    verb = {"add": "adding", "sort": "sorting", "rev": "spelling", "max": "comparing"}[problem.task]
    restated, working = ",".join(problem.items), "; ".join(_working(problem))
    return f"{verb} {restated}: {working}; check {problem.reference}#{problem.reference}"


def careless(problem: Problem) -> str:
    """Write a wrong answer of a common kind: the last number forgotten, the order left as it was.

    It is what a student has read too much of; no teacher writes it on purpose.
    """
    if problem.task == "add":
        return f"#{sum(int(item) for item in problem.items[:-1])}"
    if problem.task == "max":
        return f"#{problem.items[-1]}"
    return f"#{('' if problem.task == 'rev' else ' ').join(problem.items)}"


STYLES: dict[str, Callable[[Problem], str]] = {
    "terse": terse,
    "named": named,
    "steps": steps,
    "long": long_winded,
    "careless": careless,
}


def _draw_items(rng: random.Random, task: str, difficulty: int) -> tuple[str, ...]:
    if task == "rev":
        return tuple(rng.choice(_LETTERS) for _ in range(difficulty))
    limit = 10 if task == "add" else 100
    return tuple(str(rng.randrange(limit)) for _ in range(difficulty))


def _solve(task: str, items: tuple[str, ...]) -> str:
    if task == "rev":
        return "".join(reversed(items))
    numbers = [int(item) for item in items]
    if task == "sort":
        return " ".join(str(number) for number in sorted(numbers))
    return str(sum(numbers) if task == "add" else max(numbers))


def _working(problem: Problem) -> list[str]:
    """Partial results: running sums or maxima, the numbers in order, the letters backwards."""
    if problem.task == "sort":
        return problem.reference.split(" ")
    if problem.task == "rev":
        return list(problem.reference)
    numbers = [int(item) for item in problem.items]
    if problem.task == "max":
        return [str(max(numbers[: stop + 1])) for stop in range(len(numbers))]
    sums = [sum(numbers[: stop + 1]) for stop in range(len(numbers))]
    return [f"{a}+{b}={c}" for a, b, c in zip(sums, numbers[1:], sums[1:], strict=False)]
