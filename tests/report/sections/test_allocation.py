"""Bands of a stacked chart and the sentence on who gets which share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.report import drawing
from persyn_ray.report.sections.allocation import (
    Allocation,
    Shares,
    allocation_sentences,
    bands_of,
    draw_allocation,
    draw_tasks,
    legend_columns,
)
from persyn_ray.report.sections.run import Prompts

PROMPTS: Prompts = {
    "num_loaded": 3000,
    "num_duplicates": 0,
    "num_parallel": 1000,
    "num_routed": 2000,
    "num_heldout": 0,
}


def allocation(shares: Shares, by_task: dict[str, Shares] | None = None) -> Allocation:
    return {
        "teachers": list(shares),
        "methods": {"persyn": shares},
        "parallel_set_oracle": {},
        "by_task": by_task or {},
    }


def test_the_sentence_names_the_three_largest_and_counts_the_rest() -> None:
    shares: Shares = {"a": 0.1, "b": 0.4, "c": 0.3, "d": 0.2, "e": 0.0, "f": None}
    (said,) = allocation_sentences(allocation(shares), PROMPTS)
    assert said.startswith("PerSyn spread 2,000 prompts over 4 of 6 teachers: b ")
    assert said.endswith(" and 1 more.")  # neither those without a prompt
    assert said.index(" b ") < said.index(" c ") < said.index(" d ")


@pytest.mark.parametrize("found", [None, allocation({}), allocation({"a": 0.0, "b": None})])
def test_where_nothing_was_assigned_nothing_is_said(found: Allocation | None) -> None:
    assert allocation_sentences(found, PROMPTS) == []


def test_prompts_that_were_not_counted_are_not_numbered() -> None:
    (said,) = allocation_sentences(allocation({"a": 1.0}), None)
    assert said.startswith("PerSyn spread the prompts over 1 of 1 teachers: a ")


shares_of = st.dictionaries(
    st.sampled_from([f"teacher-{n}" for n in range(14)]), st.floats(0, 1), min_size=1
)


@given(shares_of, st.lists(shares_of, min_size=1, max_size=3))
def test_bands_hold_every_share_once_in_as_many_colours_as_there_are(
    persyn: dict[str, float], tables: list[dict[str, float]]
) -> None:
    bands = bands_of(allocation({**persyn}), [{**table} for table in tables])
    colours = [colour for _, colour, _ in bands]
    assert len(colours) == len(set(colours)) <= len(drawing.TEACHER_COLOURS) + 1
    for place, table in enumerate(tables):
        assert sum(values[place] for _, _, values in bands) == pytest.approx(sum(table.values()))
    assert 1 <= legend_columns(bands) <= len(bands)


def test_a_teacher_keeps_its_colour_in_every_chart() -> None:
    whole = allocation({"a": 0.5, "b": 0.3, "c": 0.2})
    first = {name: colour for name, colour, _ in bands_of(whole, [{"a": 1.0, "c": 0.0}])}
    second = {name: colour for name, colour, _ in bands_of(whole, [{"c": 1.0}])}
    assert first["c"] == second["c"]


def test_an_allocation_without_persyn_or_tasks_is_not_drawn() -> None:
    whole = allocation({"a": 1.0})
    assert draw_allocation({**whole, "methods": {"random": {"a": 1.0}}}) is None
    assert draw_tasks(whole) is None
    assert draw_tasks(None) is None
    assert draw_allocation(None) is None
    assert draw_tasks(allocation({"a": 1.0}, {"math": {"a": None}})) is not None
