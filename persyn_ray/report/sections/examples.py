"""Section examples: what became of the prompts, by method.

In report.json:

    examples      methods {method: {kept, without_response, truncated, looped, without_teacher,
                  kept_truncated, reassigned}} (what became of the prompts; the first five add up)
"""

from typing import TypedDict

from persyn_ray.report.numbers import count

LOST = (
    ("truncated", "responses were cut by the token limit"),
    ("looped", "went round in circles"),
    ("without_response", "are absent"),
    ("without_teacher", "had no teacher left"),
)
NOT_MEASURED = {
    "examples": "no examples were written.",
}
"""Why a part may be missing, in HTML."""


class ExampleSummary(TypedDict):
    kept: int | None
    without_response: int | None
    truncated: int | None
    looped: int | None
    without_teacher: int | None
    kept_truncated: int | None
    reassigned: int | None


class Examples(TypedDict):
    methods: dict[str, ExampleSummary]


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
    return sentences
