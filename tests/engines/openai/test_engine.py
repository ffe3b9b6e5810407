"""Endpoints with all their faults: every prompt is answered once and in its place."""

import pickle
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from persyn_ray.engines.base import Message, Request
from persyn_ray.engines.build import build_engine
from persyn_ray.engines.openai.engine import OpenAIEngine
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.storage.ledger import Account

from .asking import engine_of, reasons, request, requests, sampling
from .fault_server import Call, FaultServer, Reply, answer, failure, first

CUT = Reply(content=b'{"choices": [{"message": {"content": "half an answer"}}]}', cut=20)
FAULTS: dict[str, Reply] = {
    "busy": failure(429),
    "broken": failure(500),
    "unavailable": failure(503),
    "timeout": failure(408),
    "conflict": failure(409),
    "cut short": CUT,
    "truncated JSON": Reply(content=b'{"choices": [{"message": {"cont'),
    "not JSON": Reply(content=b"<html>try later</html>"),
    "a page": Reply(content=b"{}", headers={"Content-Type": "text/html"}),
    "no choices": Reply(content=b'{"choices": []}'),
    "null choices": Reply(content=b'{"choices": null}'),
    "reset": Reply(is_reset=True),
    "hanging": Reply(delay=60),
    "dripping": Reply(content=b'{"choices": [' + b" " * 1000, drip=0.02),
    "not gzip": Reply(content=b"{}", headers={"Content-Encoding": "gzip"}),
}


def patience(fault: Reply) -> float:
    """Seconds of an attempt: few where the fault takes its time."""
    return 0.5 if fault.delay or fault.drip else 60.0


def test_answers_come_in_the_order_of_the_requests_whoever_is_quicker() -> None:
    def plan(call: Call) -> Reply:
        return answer(call, delay=0.05 if call.number % 3 == 0 else 0.0, usage=(call.number, 5))

    asked = [*requests(30), *requests(5)]
    with FaultServer(plan) as server:
        engine = engine_of(server)
        completions = engine.generate(asked)
        engine.close()
    assert [item.text for item in completions] == [
        f"answer to {one.messages[0]['content']}" for one in asked
    ]
    assert {item.num_tokens for item in completions} == {5}
    assert len(server.prompts) == 35
    assert engine.generate([]) == []


def test_what_a_prompt_looks_like_at_the_endpoint() -> None:
    with FaultServer() as server:
        engine = engine_of(
            server,
            extra_body={"reasoning_effort": "low"},
            sampling=sampling(stop=["END"], thinking_tokens=3),
            system_prompt="Be brief.",
            template_kwargs={"thinking": True},
        )
        engine.generate([request("two\x00 ünd\n2", max_tokens=99)])
        engine.close()
    (call,) = server.prompts
    assert call.path == "/v1/chat/completions"
    assert "authorization" not in call.headers
    assert call.body == {
        "model": "tiny",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "two\x00 ünd\n2"},
        ],
        "max_tokens": 99,
        "temperature": 0.0,
        "stop": ["END"],
        "chat_template_kwargs": {"thinking": True},
        "thinking_token_budget": 3,
        "reasoning_effort": "low",
    }


def test_thinking_is_put_between_the_tags_of_the_teacher() -> None:
    message = {"content": "four", "reasoning_content": "2+2"}
    with FaultServer(lambda call: answer(call, message=message)) as server:
        engine = engine_of(server, think_tags=("[", "]"))
        (completion,) = engine.generate(requests(1))
        engine.close()
    assert completion.text == "[2+2]\nfour"


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_tried_again(fault: Reply) -> None:
    with FaultServer(first([fault])) as server:
        engine = engine_of(server, timeout_seconds=patience(fault))
        (completion,) = engine.generate(requests(1))
        engine.close()
    assert (completion.text, completion.finish_reason) == ("answer to p0", "stop")
    assert len(server.prompts) == 2


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_after_its_attempts_a_prompt_is_left_for_the_next_run(fault: Reply) -> None:
    with FaultServer(lambda call: fault if call.prompt == "p1" else None) as server:
        engine = engine_of(server, attempts=2, timeout_seconds=patience(fault))
        completions = engine.generate(requests(3))
        engine.close()
    assert reasons(completions) == ["stop", "unavailable", "stop"]
    assert completions[1].text is None
    assert "(after 2 attempts)" in str(completions[1].error)
    assert len(server.prompts) == 4


def test_a_prompt_that_is_refused_as_such_is_an_error_and_not_asked_again() -> None:
    overflow = failure(400, "This model's maximum context length is 64 tokens.")
    with FaultServer(first([overflow])) as server:
        engine = engine_of(server, max_requests=1)
        completions = engine.generate(requests(2))
        engine.close()
    assert reasons(completions) == ["error", "stop"]
    assert completions[0].error == ("status 400: This model's maximum context length is 64 tokens.")
    assert len(server.prompts) == 2


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_what_is_true_of_every_prompt_stops_the_teacher_and_buries_none(status: int) -> None:
    with FaultServer(lambda call: failure(status, "not for you")) as server:
        engine = engine_of(server)
        completions = [*engine.generate(requests(50)), *engine.generate(requests(1))]
        assert len(server.prompts) <= 4  # those that were under way
        engine.close()
    assert set(reasons(completions)) == {"unavailable"}
    assert all("'ada'" in str(one.error) for one in completions)
    assert all(f"status {status}: not for you" in str(one.error) for one in completions)


def test_a_moderated_prompt_does_not_stop_a_key_that_works() -> None:
    def plan(call: Call) -> Reply | None:
        return failure(403, "flagged") if call.prompt == "p3" else None

    with FaultServer(plan) as server:
        engine = engine_of(server, max_requests=1)
        completions = engine.generate(requests(6))
        engine.close()
    assert reasons(completions) == ["stop"] * 3 + ["error"] + ["stop"] * 2
    assert len(server.prompts) == 6


def mixed(seed: int) -> Callable[[Call], Reply | None]:
    draws, kinds = random.Random(seed), list(FAULTS.values())

    def plan(call: Call) -> Reply | None:
        if draws.random() < 0.3:
            return draws.choice(kinds)
        return answer(call, delay=draws.random() / 100)

    return plan


def test_under_a_mix_of_faults_every_prompt_is_answered_exactly_once() -> None:
    with FaultServer(mixed(seed=0)) as server:
        engine = engine_of(server, attempts=20, timeout_seconds=0.15)
        with ThreadPoolExecutor(3) as threads:
            shards = [requests(40, start) for start in (0, 40, 80)]
            done = [one for part in threads.map(engine.generate, shards) for one in part]
        engine.close()
    assert [one.text for one in done] == [f"answer to p{number}" for number in range(120)]


def test_an_endpoint_that_is_gone_does_not_hold_up_thousands_of_prompts() -> None:
    with FaultServer() as server:
        address = server.base_url
    engine = engine_of(address, attempts=5)
    completions = engine.generate(requests(2000))
    engine.close()
    assert set(reasons(completions)) == {"unavailable"}
    assert "no connection" in str(completions[0].error)
    assert "seems to be down" in str(completions[-1].error)


def test_a_prompt_that_kills_its_attempts_does_not_take_the_endpoint_down() -> None:
    with FaultServer(lambda c: failure(500) if c.prompt == "p0" else None) as server:
        engine = engine_of(server, attempts=6)
        assert reasons(engine.generate(requests(1))) == ["unavailable"]
        assert reasons(engine.generate(requests(2))) == ["unavailable", "stop"]
        engine.close()


def test_prompts_that_can_never_be_sent_are_refused() -> None:
    with FaultServer() as server:
        engine = engine_of(server, max_prompt_tokens=10, system_prompt="four")
        fits, long, broken = request("x" * 36), request("é" * 19), request("half \ud83d pair")
        assert engine.refuses(fits) is None
        assert "max_prompt_tokens" in str(engine.refuses(long))
        assert "no valid Unicode" in str(engine.refuses(broken))
        completions = engine.generate([broken, fits, long])
        engine.close()
    assert reasons(completions) == ["error", "stop", "error"]
    assert len(server.prompts) == 1


def test_closing_leaves_what_is_under_way_for_the_next_run_and_the_engine_starts_anew() -> None:
    with FaultServer(first([Reply(delay=60)] * 4)) as server, ThreadPoolExecutor(1) as thread:
        engine = engine_of(server)
        waiting = thread.submit(engine.generate, requests(9))
        while len(server.prompts) < 4:
            assert not waiting.done()
        engine.close()
        assert reasons(waiting.result()) == ["unavailable"] * 9
        assert reasons(engine.generate(requests(2))) == ["stop"] * 2
        engine.close()
        engine.close()


def test_nothing_runs_before_use_nor_after_and_engines_can_be_pickled() -> None:
    threads = threading.active_count()
    with FaultServer() as server:
        engine: OpenAIEngine = pickle.loads(pickle.dumps(engine_of(server)))
        assert threading.active_count() == threads + 1  # the server's
        assert reasons(engine.generate(requests(1))) == ["stop"]
        again: OpenAIEngine = pickle.loads(pickle.dumps(engine))
        assert reasons(again.generate(requests(1))) == ["stop"]
        engine.close()
        again.close()
        assert threading.active_count() == threads + 1


def test_a_recipe_builds_it() -> None:
    settings: dict[str, Any] = {"kind": "openai", "model": "tiny", "api_key_env": None}
    with FaultServer() as server:
        settings["base_url"] = server.base_url
        teacher = {"name": "ada", "engine": settings, "system_prompt": "Be brief."}
        spending = Account()
        engine = build_engine(TeacherConfig.model_validate(teacher), spending=spending)
        assert isinstance(engine, OpenAIEngine)
        assert engine.overlaps
        asked = Request("p", [Message(role="user", content="2+2?")])
        assert engine.generate([asked])[0].text == "answer to 2+2?"
        assert spending.spent == (12, 0.0)
        engine.close()


def test_a_second_attempt_raises_the_limit_that_extra_body_names() -> None:
    extra = {"max_tokens": None, "max_completion_tokens": 100}
    with FaultServer(lambda call: answer(call, finish_reason="length")) as server:
        engine = engine_of(server, sampling=sampling(max_tokens=16), extra_body=extra)
        engine.generate([request("cut")])
        engine.generate([request("cut", 400)])
        engine.close()
    limits = [
        {name: value for name, value in call.body.items() if name.startswith("max")}
        for call in server.prompts
    ]
    assert limits == [{"max_completion_tokens": 100}, {"max_completion_tokens": 400}]
