"""Section examples: what became of the prompts, by method.

In report.json:

    examples      methods {method: {kept, without_response, truncated, looped, without_teacher,
                  wrong, contaminated, left_out, kept_truncated, reassigned,
                  extra {name: {kept, unreadable, first_unreadable, duplicates, contaminated,
                  not_drawn}}}} (what became of the prompts; the first eight add up to them; extra:
                  rows of `dataset.extra`),
                  contaminated [{prompt_id, teacher, place, problem_id, words}] (PerSyn's examples
                  that overlap with problems of evaluation, the first few)
"""

from typing import TypedDict

from persyn_ray.report.numbers import count

LOST = (
    ("truncated", "responses were cut by the token limit"),
    ("looped", "went round in circles"),
    ("without_response", "are absent"),
    ("without_teacher", "had no teacher left"),
    ("wrong", "were wrong by the check"),
    ("contaminated", "overlap with problems of evaluation"),
    ("left_out", "prompts of the parallel set were left out"),
)
NOT_MEASURED = {
    "examples": "no examples were written.",
}
"""Why a part may be missing, in HTML."""


class ExtraSummary(TypedDict):
    kept: int | None
    unreadable: int | None
    first_unreadable: str | None
    duplicates: int | None
    contaminated: int | None
    not_drawn: int | None


class Overlap(TypedDict):
    prompt_id: str
    teacher: str
    place: str
    problem_id: str
    words: str


class ExampleSummary(TypedDict):
    kept: int | None
    without_response: int | None
    truncated: int | None
    looped: int | None
    without_teacher: int | None
    kept_truncated: int | None
    reassigned: int | None
    wrong: int | None
    contaminated: int | None
    left_out: int | None
    extra: dict[str, ExtraSummary]


class Examples(TypedDict):
    methods: dict[str, ExampleSummary]
    contaminated: list[Overlap]


def example_sentences(examples: Examples | None) -> list[str]:
    """What PerSyn's data lost, kept although cut, or had from another teacher."""
    counts = (examples or {"methods": {}})["methods"].get("persyn")
    if counts is None or counts["kept"] is None:
        return []
    lost = [f"{count(counts[key])} {phrase}" for key, phrase in LOST if counts[key]]
    sentences: list[str] = []
    if lost:
        left_out = ", ".join(lost)
        sentences.append(f"{count(counts['kept'])} prompts became examples; {left_out}.")
    if counts["kept_truncated"]:
        cut = count(counts["kept_truncated"])
        sentences.append(f"{cut} of the {count(counts['kept'])} examples were cut and kept so.")
    if counts["reassigned"]:
        sentences.append(
            f"{count(counts['reassigned'])} prompts went to a next-best teacher, as the responses "
            "before were not complete."
        )
    for name, extra in counts["extra"].items():
        sentences.append(
            f"{count(extra['kept'])} examples come from the data set {name}"
            + (f" ({left_out})" if (left_out := _left_out(extra)) else "")
            + "."
        )
    return sentences


def _left_out(extra: ExtraSummary) -> str:
    phrases = (
        ("unreadable", "rows could not be read"),
        ("duplicates", "were there already"),
        ("contaminated", "overlap with problems of evaluation"),
    )
    return ", ".join(f"{count(extra[key])} {phrase}" for key, phrase in phrases if extra[key])
