"""What refusals complain of, and what becomes of their teacher and their prompts."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from persyn_ray.engines.openai.error_kinds import read_complaint

from .asking import engine_of, reasons, request, requests, sampling
from .fault_server import Call, FaultServer, Reply, answer, failure

SENT = ("temperature", "top_p", "seed", "stop", "max_tokens", "reasoning_effort", "top_k")


def openai(message: str, code: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, "code": code, **fields}}


def invalid(place: list[Any], message: str, **fields: Any) -> dict[str, Any]:
    return {"detail": [{"loc": place, "msg": message} | fields]}


GEMINI_KEY = [
    {
        "error": {
            "code": 400,
            "message": "API key not valid. Please pass a valid API key.",
            "status": "INVALID_ARGUMENT",
            "details": [{"@type": "ErrorInfo", "reason": "API_KEY_INVALID"}],
        }
    }
]
FOR_ALL: dict[str, list[tuple[int, Any]]] = {
    "key": [
        (400, GEMINI_KEY),
        (400, openai("API key expired. Please renew the API key.")),
        (400, openai("Incorrect API key provided: sk-1.", "invalid_api_key")),
        (422, {"message": "invalid api token"}),
        (400, openai("missing Authorization header")),
        (400, openai("x", type="authentication_error")),
        (400, {"detail": "Not authenticated"}),
        (403, openai("Your account has been suspended, it was flagged")),
    ],
    "money": [
        (402, openai("Insufficient Balance")),
        (400, openai("Your credit balance is too low to access the API.")),
        (429, openai("You exceeded your current quota", "insufficient_quota")),
        (429, openai("You exceeded your quota", None, type="insufficient_quota")),
        (429, openai("余额不足或无可用资源包,请充值。", "1113")),
        (429, openai("Your account is suspended", None, type="exceeded_current_quota_error")),
        (400, {"code": "Arrearage", "message": "Access denied, make sure of your account."}),
        (403, openai("no remaining credits")),
    ],
    "model": [
        (404, openai("The model `tiny` does not exist.", "model_not_found")),
        (400, openai("Model Not Exist")),
        (400, openai("tiny is not a valid model ID")),
        (400, {"object": "error", "message": "Invalid model: tiny", "type": "invalid_model"}),
        (400, openai("Invalid model name passed in model=tiny. Call `/v1/models`")),
        (404, openai("model 'tiny' not found, try pulling it first")),
        (400, {"message": "The provided model identifier is invalid."}),
        (404, openai("The API deployment does not exist.", "DeploymentNotFound")),
    ],
    "parameter": [
        (400, openai("`temperature` and `top_p` cannot both be specified for this model.")),
        (400, openai("Unsupported value: 'temperature' does not support 0", "unsupported_value")),
        (400, openai("Unrecognized request argument supplied: seed")),
        (422, invalid(["body", "seed"], "Extra inputs are not permitted")),
        (422, invalid(["body", "stop", 0], "Input should be a valid string")),
        (400, openai('Invalid JSON payload received. Unknown name "seed": Cannot find field.')),
        (400, openai("seed: Extra inputs are not permitted", None, type="invalid_request_error")),
        (400, openai("no", None, param="reasoning_effort")),
        (400, openai("property 'stop' is unsupported")),
        (422, openai("temperature must be in (0, 1]")),
        (400, openai("top_k is not supported")),
    ],
}
FLAT = [(cause, *case) for cause, cases in FOR_ALL.items() for case in cases]
OWN: list[tuple[int, Any]] = [
    (400, openai("The response was filtered due to Azure's content management policy.")),
    (400, openai("The prompt was flagged by our moderation system; lower the temperature.")),
    (400, openai("Input data may contain inappropriate content.", "data_inspection_failed")),
    (403, openai("Your input was flagged", metadata={"reasons": ["x"]})),
    (400, openai("no", None, type="x", innererror={"code": "ResponsibleAIPolicyViolation"})),
]
UNCLEAR: list[tuple[int, Any]] = [
    (400, openai("Conversation roles must alternate user/assistant")),
    (400, openai("please stop and seed no doubts")),
    (422, invalid(["body", "messages", 0, "content"], "bad", input="temperature: 5, seed 7")),
    (400, openai("'messages.[0].content' is too odd", param="messages[0].content")),
    (400, "Bad Request"),
    (413, "Request Entity Too Large"),
]


def refusal(status: int, body: Any) -> Reply:
    return Reply(status, json.dumps(body).encode())


@pytest.mark.parametrize(("cause", "status", "body"), FLAT)
def test_a_refusal_says_what_it_complains_of(cause: str, status: int, body: Any) -> None:
    assert read_complaint(json.dumps(body).encode()).cause(status, SENT) == cause


@pytest.mark.parametrize(("status", "body"), OWN)
def test_a_refusal_of_a_prompt_is_known_as_one(status: int, body: Any) -> None:
    assert read_complaint(json.dumps(body).encode()).cause(status, SENT) == "prompt"


@pytest.mark.parametrize(("status", "body"), UNCLEAR)
def test_a_refusal_without_a_known_cause_has_none(status: int, body: Any) -> None:
    assert read_complaint(json.dumps(body).encode()).cause(status, SENT) is None


def test_a_pace_that_is_too_fast_is_no_empty_account() -> None:
    said = "You exceeded your current quota, please check your plan and billing details."
    error = openai(said, None, status="RESOURCE_EXHAUSTED")
    assert read_complaint(json.dumps([error]).encode()).cause(429, SENT) is None


def test_refusals_with_one_cause_have_one_key_whatever_their_numbers() -> None:
    said = "Request req_7f3a9 at 12:04 was refused: 'x {}' has {} parts (id 0b1c-{})"
    keys = {read_complaint(said.format(i, i, i).encode()).key for i in range(5)}
    assert len(keys) == 1
    assert read_complaint(b"Something else").key not in keys


@pytest.mark.parametrize(("cause", "status", "body"), FLAT)
def test_what_is_wrong_for_all_stops_the_teacher_at_once_and_buries_no_prompt(
    cause: str, status: int, body: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    settings = sampling(temperature=0.5, top_p=0.9, seed=3, stop=["END"])
    with FaultServer(lambda call: refusal(status, body)) as server:
        extra = {"reasoning_effort": "low", "top_k": 5}
        engine = engine_of(server, sampling=settings, extra_body=extra)
        completions = [*engine.generate(requests(40)), *engine.generate(requests(2))]
        engine.close()
    assert len(server.prompts) <= 4  # those that were under way
    assert set(reasons(completions)) == {"unavailable"}
    setting = {"key": "api_key", "money": "api_key", "model": "engine.model"}
    assert all(setting.get(cause, "extra_body") in str(one.error) for one in completions)
    assert sum("No more is asked of ada" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(("status", "body"), UNCLEAR)
def test_the_same_refusal_for_the_first_prompts_stops_the_teacher(status: int, body: Any) -> None:
    with FaultServer(lambda call: refusal(status, body)) as server:
        engine = engine_of(server)
        completions = engine.generate(requests(200))
        engine.close()
    assert len(server.prompts) < 20
    assert set(reasons(completions)) == {"unavailable"}
    assert "refuses all prompts alike" in str(completions[-1].error)


def test_refusals_that_differ_in_numbers_and_ids_are_the_same() -> None:
    def plan(call: Call) -> Reply:
        return failure(400, f"request {call.number} (id a{call.number}-3f): no can do")

    with FaultServer(plan) as server:
        engine = engine_of(server)
        assert set(reasons(engine.generate(requests(100)))) == {"unavailable"}
        engine.close()
    assert len(server.prompts) < 20


def some(refused: Callable[[int], bool], reply: Reply, delay: float = 0.01) -> Any:
    """Refuses some prompts, by their numbers, and answers all others after a while."""

    def plan(call: Call) -> Reply:
        number = int(call.prompt.removeprefix("p"))
        return reply if refused(number) else answer(call, delay=delay)

    return plan


@pytest.mark.parametrize("at_once", [1, 4, 64])
@pytest.mark.parametrize(
    "refused",
    [lambda n: n == 0, lambda n: n < 2, lambda n: n % 7 == 3, lambda n: n > 57, lambda n: n == 30],
)
@pytest.mark.parametrize(("status", "body"), [UNCLEAR[0], OWN[0]])
def test_a_refusal_of_some_prompts_is_their_own(
    status: int, body: Any, refused: Callable[[int], bool], at_once: int
) -> None:
    with FaultServer(some(refused, refusal(status, body))) as server:
        engine = engine_of(server, max_requests=at_once)
        completions = engine.generate(requests(60))
        engine.close()
    assert reasons(completions) == ["error" if refused(n) else "stop" for n in range(60)]
    assert len(server.prompts) == 60


def test_prompts_refused_by_a_rule_of_their_own_stop_nobody_even_when_they_come_first() -> None:
    with FaultServer(some(lambda n: n < 30, refusal(*OWN[0]))) as server:
        engine = engine_of(server)
        completions = engine.generate(requests(40))
        engine.close()
    assert reasons(completions) == ["error"] * 30 + ["stop"] * 10


def test_an_endpoint_that_begins_to_refuse_everything_is_stopped_and_buries_nothing() -> None:
    with FaultServer(some(lambda n: n >= 30, failure(400, "trial is over"))) as server:
        engine = engine_of(server, max_requests=20)
        completions = engine.generate(requests(400))
        engine.close()
    assert reasons(completions) == ["stop"] * 30 + ["unavailable"] * 370
    # Those answered, places given on until the last answer came, ten refused alike since, those
    # under way with them, and who took their places.
    assert len(server.prompts) <= 30 + 20 + 10 + 20 + 20


def test_a_key_that_ends_on_the_way_stops_the_teacher_under_any_status() -> None:
    for status in (400, 403):
        with FaultServer(some(lambda n: n >= 30, refusal(status, GEMINI_KEY))) as server:
            engine = engine_of(server)
            completions = engine.generate(requests(99))
            engine.close()
        assert reasons(completions) == ["stop"] * 30 + ["unavailable"] * 69


def test_a_parameter_refused_once_on_the_way_is_no_prompts_fault_and_stops_nobody() -> None:
    with FaultServer(some(lambda n: n == 30, refusal(*FOR_ALL["parameter"][0]))) as server:
        engine = engine_of(server)
        completions = engine.generate(requests(60))
        engine.close()
    assert reasons(completions) == ["unavailable" if n == 30 else "stop" for n in range(60)]


def test_too_few_refusals_to_know_leave_their_prompts_open() -> None:
    with FaultServer(lambda call: failure(400, "no")) as server:
        engine = engine_of(server)
        assert reasons(engine.generate(requests(2))) == ["unavailable"] * 2
        engine.close()


def test_calls_of_several_threads_share_what_is_known() -> None:
    with FaultServer(some(lambda n: n == 1, failure(400, "no"))) as server:
        engine = engine_of(server)
        assert reasons(engine.generate([request("p0")])) == ["stop"]
        assert reasons(engine.generate([request("p1")])) == ["error"]
        engine.close()


def test_refusals_under_another_status_are_known_as_what_they_are() -> None:
    """OpenRouter answers with 200 and the error of the provider behind it."""
    body = openai("Provider returned error", None) | {}
    body["error"] |= {"code": 400, "metadata": {"raw": "API key not valid"}}
    with FaultServer(lambda call: refusal(200, body)) as server:
        engine = engine_of(server)
        assert set(reasons(engine.generate(requests(20)))) == {"unavailable"}
        engine.close()
    assert len(server.prompts) <= 4


def test_parameters_that_say_nothing_are_not_sent() -> None:
    def strict(call: Call) -> Reply | None:
        odd = call.body.keys() - {"model", "messages", "max_tokens"}
        return failure(400, f"Unrecognized request arguments: {sorted(odd)}") if odd else None

    with FaultServer(strict) as server:
        engine = engine_of(server, sampling=sampling(temperature=1.0))
        assert reasons(engine.generate(requests(3))) == ["stop"] * 3
        engine.close()
        engine = engine_of(server, extra_body={"temperature": None})
        assert reasons(engine.generate(requests(3))) == ["stop"] * 3
        engine.close()
        engine = engine_of(server, sampling=sampling(temperature=0.3, top_p=0.9))
        assert reasons(engine.generate(requests(3))) == ["unavailable"] * 3
        engine.close()
    last = server.prompts[-1].body
    assert (last["temperature"], last["top_p"], "seed" in last) == (0.3, 0.9, False)
