"""Refusals that may be the prompts' own or have one cause: how each sequence of events ends."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.engines.openai.shared_refusals import (
    FIRST_ALIKE,
    LATER_ALIKE,
    Verdict,
    Verdicts,
)

Scene = Callable[[Verdicts], Awaitable[list[Verdict]]]


def played(scene: Scene) -> list[Verdict]:
    async def limited() -> list[Verdict]:
        return await asyncio.wait_for(scene(Verdicts()), 5)

    return asyncio.run(limited())


async def settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def held(verdicts: Verdicts, who: str, at: float, key: str = "bad") -> asyncio.Task[Verdict]:
    """A request that was sent, came back refused, and waits."""
    verdicts.began()
    return asyncio.ensure_future(verdicts.of(who, key, at))


def test_a_refusal_is_the_prompts_own_once_a_later_request_is_answered() -> None:
    async def scene(verdicts: Verdicts) -> list[Verdict]:
        verdicts.began()  # another request, under way
        refused = held(verdicts, "a", at=1.0)
        await settled()
        verdicts.answered(sent_at=0.5)  # sent before the refusal: tells nothing of it
        await settled()
        assert not refused.done()
        verdicts.answered(sent_at=2.0)
        return [await refused]

    assert played(scene) == ["own"]


def test_the_first_prompts_refused_alike_stop_the_teacher() -> None:
    async def scene(verdicts: Verdicts) -> list[Verdict]:
        verdicts.began()
        waiting = [held(verdicts, str(n), at=1.0) for n in range(FIRST_ALIKE)]
        return list(await asyncio.gather(*waiting))

    assert played(scene) == ["stop"] * FIRST_ALIKE


def test_nothing_is_stopped_while_one_that_was_under_way_may_still_be_answered() -> None:
    async def scene(verdicts: Verdicts) -> list[Verdict]:
        verdicts.began()
        verdicts.sent("witness")
        waiting = [held(verdicts, str(n), at=1.0) for n in range(FIRST_ALIKE)]
        await settled()
        assert not any(one.done() for one in waiting)
        verdicts.answered(sent_at=1.0)
        verdicts.back("witness")
        verdicts.ended()
        return list(await asyncio.gather(*waiting))

    assert played(scene) == ["own"] * FIRST_ALIKE


def test_a_witness_that_is_refused_too_stops_the_teacher() -> None:
    async def scene(verdicts: Verdicts) -> list[Verdict]:
        verdicts.began()
        verdicts.sent("witness")
        waiting = [held(verdicts, str(n), at=1.0) for n in range(FIRST_ALIKE)]
        await settled()
        verdicts.back("witness")
        return list(await asyncio.gather(*waiting))

    assert played(scene) == ["stop"] * FIRST_ALIKE


@pytest.mark.parametrize(("has_answered", "verdict"), [(False, "open"), (True, "own")])
def test_at_rest_it_depends_on_whether_the_endpoint_ever_answered(
    has_answered: bool, verdict: Verdict
) -> None:
    async def scene(verdicts: Verdicts) -> list[Verdict]:
        if has_answered:
            verdicts.began()
            verdicts.answered(sent_at=0.0)
            verdicts.ended()
        return [await held(verdicts, "a", at=1.0)]

    assert played(scene) == [verdict]


def test_the_same_prompt_asked_again_does_not_count_twice() -> None:
    async def scene(verdicts: Verdicts) -> list[Verdict]:
        verdicts.began()
        waiting = [held(verdicts, "same", at=1.0) for _ in range(FIRST_ALIKE)]
        await settled()
        assert not any(one.done() for one in waiting)
        verdicts.ended()
        return list(await asyncio.gather(*waiting))

    assert played(scene) == ["open"] * FIRST_ALIKE


def test_refusals_of_other_kinds_stay_open_when_one_cause_stops_the_teacher() -> None:
    async def scene(verdicts: Verdicts) -> list[Verdict]:
        verdicts.began()
        other = held(verdicts, "x", at=1.0, key="other")
        waiting = [held(verdicts, str(n), at=1.0) for n in range(FIRST_ALIKE)]
        return [await other, *await asyncio.gather(*waiting)]

    assert played(scene) == ["open", *["stop"] * FIRST_ALIKE]


def test_an_endpoint_that_has_answered_is_believed_for_longer() -> None:
    async def scene(verdicts: Verdicts) -> list[Verdict]:
        verdicts.began()
        verdicts.answered(sent_at=0.0)
        waiting = [held(verdicts, str(n), at=1.0) for n in range(LATER_ALIKE - 1)]
        await settled()
        assert not any(one.done() for one in waiting)
        waiting.append(held(verdicts, "last", at=1.0))
        return list(await asyncio.gather(*waiting))

    assert played(scene) == ["stop"] * LATER_ALIKE


@given(
    keys=st.lists(st.sampled_from("ab"), min_size=1, max_size=14),
    answers=st.lists(st.floats(0, 3), max_size=4),
    with_witness=st.booleans(),
)
def test_every_refusal_gets_a_verdict_once_all_is_over(
    keys: list[str], answers: list[float], with_witness: bool
) -> None:
    async def scene(verdicts: Verdicts) -> list[Verdict]:
        verdicts.began()
        if with_witness:
            verdicts.sent("witness")
        waiting = [held(verdicts, str(n), 1.0, key) for n, key in enumerate(keys)]
        await settled()
        for sent_at in answers:
            verdicts.answered(sent_at)
        verdicts.back("witness")
        verdicts.ended()
        return list(await asyncio.gather(*waiting))

    found = played(scene)
    assert set(found) <= {"own", "open", "stop"}
    if answers and max(answers) >= 1.0 and with_witness:
        assert set(found) == {"own"}
