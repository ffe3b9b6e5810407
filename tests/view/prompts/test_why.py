"""Why a prompt went to its teacher: one sentence for every way that it may have gone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.view.prompts.filters import UNSURE_MARGIN
from persyn_ray.view.prompts.why import Choice, why

NAMES = ("ann", "bob", "cid")


def choice(logits: list[float] | None = None, **given: Any) -> Choice:
    logits = [2.0, 1.0, 0.0] if logits is None else logits
    plain = Choice(
        names=NAMES,
        split="routed",
        teacher="ann",
        margin=None,
        logits_M=np.array(logits),
        candidates_M=np.ones(3, np.bool_),
        within=None,
        limits=(),
        endings={},
        is_novel=False,
    )
    return replace(plain, **given)


def only(*names: str) -> np.ndarray:
    return np.array([name in names for name in NAMES])


@pytest.mark.parametrize(
    ("given_choice", "said"),
    [
        (choice(logits_M=None), "Not routed yet"),
        (choice(candidates_M=only()), "No teacher can take this prompt"),
        (choice(), "most from ann: it beats bob, the next best, with a probability of 73%"),
        (choice(candidates_M=only("ann")), "ann is the only teacher that can take this prompt."),
        (choice([1.0, 1.0, 0.0]), "ann and bob equally good; a seeded draw decided for ann."),
        (choice([1.0, 1.0, 0.0], teacher="bob"), "equally good; a seeded draw decided for bob."),
        (choice(teacher=None), "The router prefers ann; no assignment is written yet."),
        (choice(teacher=None, split="heldout"), "it goes to nobody; the router would take ann."),
        (
            choice(teacher="bob", within="bob", limits=("max_tokens",)),
            "by 1.00 logits, but the limits of `assignment` (max_tokens) gave it to bob.",
        ),
        (choice(teacher="cid", within="cid"), "the limits of `assignment` gave it to cid."),
        (
            choice(teacher="bob", endings={"ann": "length"}),
            "but its response was cut, so bob was asked next.",
        ),
        (
            choice(teacher="bob", endings={"ann": "loop"}),
            "its response went round in circles, so bob was asked next.",
        ),
        (
            choice(teacher="bob", endings={"ann": "error"}),
            "it gave no complete response, so bob was asked next.",
        ),
        (choice(teacher="bob"), "it gave no complete response, so bob was asked next."),
    ],
)
def test_each_way_has_its_sentence(given_choice: Choice, said: str) -> None:
    assert said in why(given_choice)


@pytest.mark.parametrize("gap", [UNSURE_MARGIN * 0.99, UNSURE_MARGIN * 1.01])
def test_a_close_call_is_called_so(gap: float) -> None:
    assert ("close call" in why(choice([gap, 0.0, -9.0]))) is (gap < UNSURE_MARGIN)


def test_a_novel_prompt_is_a_guess_whoever_has_it() -> None:
    assert why(choice(is_novel=True)).endswith("so the router is guessing.")
    assert "guessing" not in why(choice(is_novel=True, logits_M=None))


@given(
    logits=st.lists(st.floats(-20, 20), min_size=3, max_size=3),
    able=st.lists(st.booleans(), min_size=3, max_size=3),
    teacher=st.sampled_from([None, *NAMES]),
    within=st.sampled_from([None, *NAMES]),
    ending=st.sampled_from([None, "stop", "length", "loop"]),
)
def test_every_choice_can_be_told(
    logits: list[float],
    able: list[bool],
    teacher: str | None,
    within: str | None,
    ending: str | None,
) -> None:
    endings = {} if ending is None else dict.fromkeys(NAMES, ending)
    said = why(
        choice(
            logits,
            candidates_M=np.array(able),
            teacher=teacher,
            within=within,
            endings=endings,
        )
    )
    assert said.endswith(".")
    assert "nan" not in said
    if any(able) and teacher is not None:
        assert teacher in said
