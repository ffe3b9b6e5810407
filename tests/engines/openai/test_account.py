"""Whether an endpoint can work at all, and a key that nobody gets to see."""

import json
import logging
import pickle
import traceback
from pathlib import Path

import pytest

from persyn_ray.engines.openai.engine import OpenAIEngine
from persyn_ray.errors import ConfigError

from .asking import engine_of, reasons, requests
from .fault_server import Call, FaultServer, Plan, Reply, failure

KEY = "sk-the-secret-of-ada-0123456789"
PLACE = {"api_key_env": "ADA_KEY"}


@pytest.fixture(autouse=True)
def ada_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADA_KEY", f"{KEY}\n")


def test_a_key_from_the_environment_or_a_file_is_sent_and_nothing_is_spent(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    for place in (PLACE, {"api_key_file": str(tmp_path / "key"), "api_key_env": "NOBODYS_KEY"}):
        with FaultServer(key=KEY) as server:
            engine = engine_of(server, **place)
            engine.check()
            assert [call.path for call in server.calls] == ["/v1/models"]
            assert reasons(engine.generate(requests(1))) == ["stop"]
            engine.close()


def test_without_a_place_for_a_key_none_is_sent() -> None:
    with FaultServer() as server:
        engine_of(server, api_key_env=None).check()
    assert "authorization" not in server.calls[0].headers


@pytest.mark.parametrize(
    ("value", "message"), [("", "empty or not set"), ("two words", "characters that no key has")]
)
def test_a_missing_key_names_its_place_and_the_teacher(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str, message: str
) -> None:
    monkeypatch.setenv("ADA_KEY", value)
    with FaultServer() as server:
        engine = engine_of(server, **PLACE)
        with pytest.raises(ConfigError, match=rf"'ada' needs .*variable ADA_KEY .*{message}"):
            engine.check()
        (completion,) = engine.generate(requests(1))
        engine.close()
        absent = engine_of(server, api_key_file=str(tmp_path / "absent"))
        with pytest.raises(ConfigError, match=r"'ada' needs .*absent \(engine.api_key_file\)"):
            absent.check()
    assert completion.finish_reason == "unavailable"
    assert str(completion.error).startswith("Teacher 'ada' needs")
    assert server.calls == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_is_refused_before_anything_is_asked(status: int) -> None:
    with FaultServer(lambda call: failure(status, "who are you?")) as server:
        with pytest.raises(ConfigError, match=rf"'ada': .* ADA_KEY .*{status}: who are you"):
            engine_of(server, **PLACE).check()
        assert server.prompts == []


def listing(*names: str) -> Reply:
    rows = [{"id": name} for name in names]
    return Reply(content=json.dumps({"object": "list", "data": rows}).encode())


def test_a_model_that_is_not_listed_is_warned_of_with_some_that_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with FaultServer() as server:
        engine_of(server, model="tyni").check()
    assert "does not list the model 'tyni'" in caplog.text
    assert "some are ['tiny'" in caplog.text


def test_the_first_prompt_decides_about_a_model_that_is_not_listed() -> None:
    answers = FaultServer(lambda call: listing("/models/some.gguf") if not call.body else None)
    with answers as server:  # a llama.cpp server lists the path of its file
        engine = engine_of(server)
        engine.check()
        assert reasons(engine.generate(requests(2))) == ["stop", "stop"]
        engine.close()
    with FaultServer() as server:
        engine = engine_of(server, model="absent")
        engine.check()
        completions = engine.generate(requests(30))
        engine.close()
    assert set(reasons(completions)) == {"unavailable"}
    assert "does not know the model 'absent', engine.model" in str(completions[-1].error)


@pytest.mark.parametrize(
    ("model", "listed"),
    [
        ("llama3", "llama3:latest"),
        ("meta/llama-3:nitro", "meta/llama-3"),
        ("openai/gpt-4o", "openai/*"),
        ("gpt-4o", "*"),
        ("gemini-2", "models/gemini-2"),
        ("tiny", None),
    ],
)
def test_names_in_other_writing_and_empty_lists_are_no_news(
    model: str, listed: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    names = () if listed is None else (listed,)
    with FaultServer(lambda call: listing(*names)) as server:
        engine_of(server, model=model).check()
    assert caplog.text == ""


def at(*paths: str, page: bytes | None = None) -> Plan:
    """An endpoint with these services alone; elsewhere there is a page, or nothing."""

    def plan(call: Call) -> Reply | None:
        if call.path in paths:
            return None if call.method == "POST" or "models" in call.path else failure(405)
        return failure(404) if page is None else Reply(content=page)

    return plan


@pytest.mark.parametrize("page", [None, b"<html>Welcome</html>"])
@pytest.mark.parametrize(
    ("given", "right"),
    [("", "/v1"), ("/", "/v1"), ("", "/api/v1"), ("/llm", "/llm/v1"), ("/v1", "")],
)
def test_an_address_that_lacks_a_part_is_refused_with_the_one_that_works(
    given: str, right: str, page: bytes | None
) -> None:
    with FaultServer(at(f"{right}/models", f"{right}/chat/completions", page=page)) as server:
        root = server.base_url.removesuffix("/v1")
        with pytest.raises(ConfigError, match=rf"engine.base_url; {root}{right} is one"):
            engine_of(f"{root}{given}").check()
    assert server.prompts == []


def test_an_endpoint_without_a_list_beside_another_one_is_accepted() -> None:
    with FaultServer(at("/llm/chat/completions", "/llm/v1/models")) as server:
        engine_of(f"{server.base_url.removesuffix('/v1')}/llm").check()


@pytest.mark.parametrize(
    "reply",
    [
        failure(404),
        failure(405),
        failure(429),
        Reply(content=b'{"data": [{"id": "models/tiny"}]}'),
        Reply(content=b'[{"id": "tiny"}]'),
        Reply(content=b'{"models": "many"}'),
    ],
)
def test_endpoints_with_other_lists_or_none_are_accepted(reply: Reply) -> None:
    with FaultServer(lambda call: reply) as server:
        engine_of(server).check()
    assert server.prompts == []


def test_a_short_trouble_does_not_fail_the_check() -> None:
    plan: Plan = lambda call: failure(503) if len(server.calls) == 1 else None  # noqa: E731
    with FaultServer(plan) as server:
        engine_of(server).check()
    assert len(server.calls) == 2


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (failure(503, "asleep"), "status 503: asleep"),
        (Reply(content=b"<html>Welcome</html>"), "something other than JSON.*/v1"),
        (Reply(301, headers={"Location": "/"}), "correct engine.base_url"),
        (Reply(delay=60), "within 0.3 seconds"),
        (Reply(content=b"[" + b" " * 1000, drip=0.05), "within 0.3 seconds"),
        (Reply(is_reset=True), "connection broke"),
    ],
)
def test_an_address_where_no_endpoint_answers_is_named(reply: Reply, message: str) -> None:
    with (
        FaultServer(lambda call: reply) as server,
        pytest.raises(ConfigError, match=rf"'ada': {server.base_url} .*{message}"),
    ):
        engine_of(server, timeout_seconds=0.3).check()


def test_an_address_that_is_none_or_dead_is_named() -> None:
    with FaultServer() as server:
        address = server.base_url
    with pytest.raises(ConfigError, match=rf"{address} cannot be reached \(engine.base_url\)"):
        engine_of(address).check()
    for wrong in (
        "localhost:80",
        "",
        "http://",
        "ftp://host",
        "http://host:99999",
        "http://" + "a" * 70,
    ):
        with pytest.raises(ConfigError, match=r"'ada' has engine.base_url .* no web address"):
            engine_of(wrong)


def echo(status: int, length: int = 0) -> Plan:
    """An endpoint that says the key it was given; some of them on a place where it may be cut."""

    def plan(call: Call) -> Reply:
        return failure(status, "x" * length + f" bad: {call.headers.get('authorization')}")

    return plan


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 429, 500])
def test_the_key_appears_nowhere(status: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    for length in (0, 470):
        with FaultServer(echo(status, length)) as server:
            engine: OpenAIEngine = engine_of(server, attempts=2, **PLACE)
            completions = engine.generate(requests(3))
            shown += [
                repr(completions),
                repr(engine),
                repr(vars(engine)),
                str(pickle.dumps(engine)),
            ]
            try:
                engine.check()
            except ConfigError as error:
                shown += ["".join(traceback.format_exception(error)), str(pickle.dumps(error))]
            engine.close()
        assert {one.text for one in completions} == {None}
        assert all(KEY in call.headers["authorization"] for call in server.calls)
    for text in [*shown, caplog.text]:
        assert "sk-the" not in text
        assert KEY[10:] not in text
    assert any("[key]" in text for text in shown)
