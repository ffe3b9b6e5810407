"""Secrets are told by their look, refused wherever they stand in a recipe, cut from messages."""

import copy
import logging
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from persyn_ray.cli import main, shared
from persyn_ray.credentials import cut_secrets, places_of_secrets
from persyn_ray.errors import ConfigError, StepError
from persyn_ray.recipe.recipe import Recipe, load_recipe, parse_recipe, shown, stored
from persyn_ray.report.problems import reason_of
from persyn_ray.serving.router_source import parse_serving

# Made up; each in the form of some service.
KEYS = {
    "openai": "sk-proj-A1b2C3d4E5f6G7h8I9j0K1l2",
    "openai old": "sk-a1b2c3d4e5f6a7b8c9d0e1f2",
    "anthropic": "sk-ant-api03-Zz9Yy8Xx7Ww6Vv5Uu4-Tt3Ss2_Rr1",
    "openrouter": "sk-or-v1-0123456789abcdef0123456789abcdef",
    "google": "AIzaSyA1234567890abcdefghijklmnopqrstu",
    "hugging face": "hf_AbCdEfGhIjKlMnOpQrStUvWxYz01234567",
    "github": "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "github fine": "github_pat_11ABCDEFG0123456789_abcdefghij",
    "aws": "AKIAIOSFODNN7EXAMPLE",
    "xai": "xai-0123456789abcdefghijABCDEFGHIJ",
    "groq": "gsk_0123456789abcdefghijABCDEFGHIJ0123456789",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLWlzLWhlcmU",
    "slack": "xoxb-123456789012-abcdefABCDEF",
    "gitlab": "glpat-AbCdEf0123456789abcd",
    "ours": "pk-0123456789abcdefghijABCDEFGHIJ0123456789xyz",
    "openai service": "sk-svcacct-abcDEF123_ghiJKL456-mnoPQR789stuVWX012yzA",
    "together": "tgp_v1_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789",
    "anyscale": "esecret_abcdefghijklmnopqrstuvwxyz",
    "databricks": "dapi0123456789abcdef0123456789abcdef",
    "runpod": "rpa_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdef",
    "bedrock": "ABSKQmVkcm9ja0FQSUtleS1hYmNkZWZnaGlqa2xtbm9w",
    "langsmith": "lsv2_pt_0123456789abcdef0123456789abcdef_0123456789",
    "of one case": "sk-abcdefghijklmnopqrstuvwxyz",
}
ADDRESSES = {
    "password": ("https://ada:correct-horse@host/data.jsonl", "correct-horse"),
    "quoted password": ("sftp://ada%3Acorrect-horse@host/data", "correct-horse"),
    "user": ("https://horse-token-1@host/data.jsonl", "horse-token-1"),
    "bucket": ("s3://minio:correct-horse@bucket/run", "correct-horse"),
    "slashes": ("s3://minio:correct/horse+battery@bucket/run", "horse+battery"),
    "hash": ("https://ada:correct#horse@host.org/v1", "correct#horse"),
    "no scheme": ("ada:correct-horse@host.org/run", "correct-horse"),
    "chained": ("simplecache::https://ada:correct-horse@host/x", "correct-horse"),
    "aws": ("https://b.s3.amazonaws.com/x.jsonl?X-Amz-Signature=0f1e2d3c&y=1", "0f1e2d3c"),
    "aws token": ("https://b.org/x?X-Amz-Security-Token=IQoJb3JpZ2&z=2", "IQoJb3JpZ2"),
    "azure": ("https://a.blob.core.windows.net/c/x?sv=2024&sig=kd8%2Fabc%3D", "kd8%2Fabc"),
    "google": ("https://storage.googleapis.com/b/x?X-Goog-Signature=77aa", "77aa"),
    "token": ("https://host/x.jsonl?token=tok-123", "tok-123"),
    "named for its service": ("https://host/x?openai_api_key=k-123456", "k-123456"),
    "personal token": ("https://host/x?personal_access_token=t-123456", "t-123456"),
    "fragment": ("https://host/x.jsonl#access_token=tok-123", "tok-123"),
    "function": ("https://host/api/x?code=c0de99", "c0de99"),
}
SECRETS = [*((key, key) for key in KEYS.values()), *ADDRESSES.values()]
JUDGE = {
    "kind": "judge",
    "engine": {"kind": "openai", "model": "m", "api_key_file": "/run/secrets/judge"},
}
FULL: dict[str, Any] = {
    "run": "runs/x",
    "name": "Title",
    "student": {"name": "random:llama", "template_kwargs": {"a": "b", "c": {"d": ["e"]}}},
    "teachers": [
        {
            "name": "a",
            "engine": {
                "kind": "openai",
                "model": "m",
                "extra_body": {"reasoning": {"effort": "low"}},
            },
            "template_kwargs": {"thinking": "on"},
            "system_prompt": "Be brief.",
            "sampling": {"stop": ["END"]},
            "price": {"prompt": 1, "response": 2},
            "budget": {"dollars": 3},
        },
        {
            "name": "b",
            "engine": {"kind": "vllm", "model": {"name": "big"}, "arguments": {"x": "y"}},
            "resources": {"arguments": {"z": "w"}},
        },
        {"name": "c", "engine": {"kind": "recorded", "path": "answers.parquet"}},
    ],
    "prompts": {"path": ["p.jsonl"], "reference_column": "answer"},
    "responses": {"store": "s3://bucket/store"},
    "scoring": {
        "quality": {
            "kind": "several",
            "parts": [
                {"name": "one", "quality": JUDGE},
                {"name": "two", "quality": {"kind": "recorded", "path": "t", "score_column": "s"}},
            ],
        }
    },
    "router": {"backbone": {"name": "random:llama"}, "extend": "runs/y/router"},
    "evaluate": {"path": "q.jsonl"},
    "compare": {"methods": ["random"], "family": ["a"]},
    "serving": {
        "keys": {"alice": "0" * 64},
        "keys_file": "/run/secrets/keys",
        "masked": ["c"],
        "upstreams": {"a": {"model": "m", "base_url": "http://10.1.2.3:8000/v1"}},
    },
}


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a mapping, plain values and whole sections alike."""
    if path:
        yield path
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*path, key))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from leaves(value, (*path, number))


def planted(data: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    whole = copy.deepcopy(data)
    node = whole
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    return whole


def every_word(error: BaseException) -> str:
    """All that a terminal may show of an error, its causes included."""
    return "".join(traceback.format_exception(error)) + repr(error)


def places() -> list[tuple[Any, ...]]:
    return list(leaves(Recipe.model_validate(FULL).model_dump(mode="json")))


def test_the_recipe_of_these_tests_is_a_recipe() -> None:
    whole = Recipe.model_validate(FULL).model_dump(mode="json")
    parse_recipe(whole, "test")
    assert len(places()) > 250


@pytest.mark.parametrize("number", range(len(SECRETS)))
def test_a_secret_is_refused_wherever_it_stands_and_never_repeated(number: int) -> None:
    whole, (text, secret) = Recipe.model_validate(FULL).model_dump(mode="json"), SECRETS[number]
    for path in places()[number % 4 :: 4]:  # every place meets a quarter of them
        with pytest.raises(ConfigError) as refused:
            parse_recipe(planted(whole, path, text), "recipe.yaml")
        assert secret not in every_word(refused.value), path
        assert path[-1] == "keys" or str(path[0]) in str(refused.value), path


@pytest.mark.parametrize("key", KEYS.values())
@pytest.mark.parametrize(
    "place", ["extra_body", "template_kwargs", "headers", "keys", "top", "deep"]
)
def test_a_key_in_place_of_a_name_is_refused(key: str, place: str) -> None:
    data = copy.deepcopy(FULL)
    teacher = data["teachers"][0]
    match place:
        case "extra_body":
            teacher["engine"]["extra_body"] = {key: 1}
        case "template_kwargs":
            teacher["template_kwargs"] = {"a": [{key: None}]}
        case "headers":
            teacher["engine"]["headers"] = {"Authorization": f"Bearer {key}"}
        case "keys":
            data["serving"]["keys"] = {key: "0" * 64}
        case "top":
            data[key] = 3
        case _:
            teacher["engine"]["extra_body"] = {"a": {"b": [["Bearer " + key]]}}
    with pytest.raises(ConfigError) as refused:
        parse_recipe(data, "recipe.yaml")
    assert key not in every_word(refused.value)


@pytest.mark.parametrize(
    ("field", "secret"),
    [
        ("api_key_env", "0123456789abcdef0123456789abcdef"),
        ("api_key_env", "aB3dEfGh1JkLmN0pQrStUvWxYz12"),  # could be the name of a variable
        ("api_key_env", "hf_hushword"),
        ("api_key_env", "my hush words"),
        ("api_key_env", "sk-short"),
        ("api_key_env", "a0123456789abcdef0123456789abcdef"),  # so could this
        ("api_key_env", ["listed-hush"]),
        ("api_key_file", "sk-short99"),
        ("api_key_file", {"inner-hush": 1}),
        ("base_url", "https://host/v1/sk-short99"),
        ("base_url", "https://host/aB3dEfGh1JkLmN0pQrStUvWxYz12/v1"),
        ("base_url", "https://host/v1#hush-hush"),
        ("base_url", "https://host/v1?hush-hush"),
        ("base_url", "https://hush-hush@host/v1"),
        ("extra_body", {"api_key": "hush-hush"}),
        ("extra_body", {"metadata": {"X-API-Key": "hush-hush"}}),
        ("extra_body", {"provider": [{"accessToken": "hush-hush"}]}),
        ("extra_body", {"password": 71993}),
        ("extra_body", {"OPENAI_API_KEY": "hush-hush"}),
        ("extra_body", {"x-goog-api-key": "hush-hush"}),
        ("extra_body", {"vertex_credentials": {"a": "hush-hush"}}),
        ("extra_body", {"api_key": {"value": "hush-hush"}}),
        ("extra_body", {"authentication": {"type": "api_key", "key": "hush-hush"}}),
        ("extra_body", {"note": "api_key=hush-hush"}),
        ("extra_body", ["hush-hush"]),
        ("extra_body", "hush-hush"),
        ("extra_headers", {"Authorization": "hush-hush"}),
    ],
)
def test_where_keys_are_put_an_unknown_form_is_not_repeated_either(field: str, secret: Any) -> None:
    data = copy.deepcopy(FULL)
    data["teachers"][0]["engine"][field] = secret
    with pytest.raises(ConfigError) as refused:
        parse_recipe(data, "recipe.yaml")
    words = every_word(refused.value)
    for word in ("hush", "71993", "short", "0123456789abcdef", "aB3dEf"):
        assert word not in words
    assert "teachers.0.engine" in words


@pytest.mark.parametrize(
    "keys",
    [
        {"alice": "pk-hushkeyofalice"},
        {"hush key with blanks": "0" * 64},
        {"alice": 12345678901234},
        "pk-hushkeyofalice",
        ["hushkeyofalice"],
        {"alice": {"hushkeyofalice": 1}},
    ],
)
def test_a_raw_key_among_the_endpoint_s_keys_is_not_repeated(keys: Any) -> None:
    with pytest.raises(ConfigError) as of_recipe:
        parse_recipe({**FULL, "serving": {"keys": keys}}, "recipe.yaml")
    with pytest.raises(ConfigError) as of_settings:
        parse_serving({"keys": keys}, "settings.yaml")
    for error in (of_recipe.value, of_settings.value):
        words = every_word(error)
        assert "serving.keys" in str(error)
        assert "hush" not in words
        assert "12345678901234" not in words


def test_broken_yaml_is_told_by_its_place_and_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text('run: x\nengine: {api_key_env: "hush-hush\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="line") as refused:
        load_recipe(path)
    assert "hush-hush" not in every_word(refused.value)


def test_overrides_are_refused_without_their_values(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(FULL), encoding="utf-8")
    for override in (
        "teachers.0.engine.api_key_env=[hush-hush",
        "teachers.0.engine.api_key_env=hush-hush",
        "teachers.0.engine.api_key_env.x=hush-hush",
        "teachers.x.engine=hush-hush",
        f"run=s3://b?{'x-amz-signature'}=hush-hush",
    ):
        with pytest.raises(ConfigError) as refused:
            load_recipe(path, (override,))
        assert "hush-hush" not in every_word(refused.value), override


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("prompts.path", "data/sk-train-00001-of-00002.parquet"),  # Slovak
        ("prompts.path", "data/tokens/ak-key.jsonl"),
        ("prompts.path", "hub:HuggingFaceH4/MATH-500"),
        ("prompts.path", "https://host.org/data.jsonl?download=true&rev=2"),
        ("prompts.path", "s3://bucket/p*.jsonl"),
        ("run", "sftp://ada@host/runs/x"),
        ("run", "s3://bucket/runs/2026-01-01T12:30/x"),
        ("name", "What is the token: <s>? Ask ada@host.org"),
        ("teachers.0.system_prompt", "Set password: at least 8 letters. Bearer of news."),
        ("teachers.0.engine.api_key_env", "MY_ORGANISATION_2_OPENAI_API_KEY"),
        ("teachers.0.engine.api_key_env", "hf_token"),
        ("teachers.0.engine.api_key_file", "/run/secrets/openai-key"),
        ("teachers.0.engine.base_url", "https://api.cloudflare.com/v4/0123456789abcdef01/ai/v1"),
        ("teachers.0.engine.base_url", "https://x.openai.azure.com/openai/deployments/gpt-4o-1/v1"),
        ("teachers.0.engine.base_url", "http://sk-prod.example.org:8000/v1"),
        ("teachers.0.engine.extra_body", {"max_tokens": None, "stop_token_ids": [1], "top_k": 5}),
        ("teachers.0.engine.extra_body", {"provider": {"order": ["a"]}, "return_tokens": True}),
        ("teachers.0.template_kwargs", {"bos_token": "<s>", "enable_thinking": False}),
        ("student.revision", "0123456789abcdef0123456789abcdef01234567"),
        ("student.name", "org/sk-slovak-llama-3-8b-instruct-v1-quantised"),
        ("run", "runs/sk-ablation-2026-01-01-with-alpha-0-4-and-more-teachers"),
        ("prompts.path", "hub:org/sk-news-dataset-with-very-long-name-train-v2"),
        ("prompts.path", "hf_prompts_for_the_student_model_v2.jsonl"),
        ("prompts.path", "data/sk-learn_questions_and_answers.jsonl"),
        ("prompts.path", "zip://part.csv::s3://bucket/a@b.zip"),
        ("prompts.path", "http://host:8000/a@b/x.jsonl"),
        ("teachers.0.engine.model", "pk-tuned-mistral-7b-instruct-v0-2-awq-quantised"),
        ("teachers.0.engine.api_key_env", "hf_readtoken"),
        ("teachers.0.engine.api_key_env", "ASIAPACIFIC_KEY"),
        ("teachers.0.engine.api_key_env", "MY_KEY_2"),
        ("teachers.0.engine.extra_body", {"schema": {"properties": {"token": {"type": "string"}}}}),
        ("teachers.0.engine.extra_body", {"prompt_cache_key": "a", "num_tokens": 5}),
    ],
)
def test_what_only_resembles_a_secret_is_accepted(section: str, value: Any) -> None:
    path = tuple(int(part) if part.isdigit() else part for part in section.split("."))
    data = planted(copy.deepcopy(FULL), path, value)
    assert places_of_secrets(data) == []
    parse_recipe(data, "recipe.yaml")


def test_reports_show_no_place_of_a_run_or_an_endpoint() -> None:
    recipe = parse_recipe(FULL | {"ledger": "s3://bucket/paid"}, "test")
    text = yaml.safe_dump(shown(recipe))
    for absent in (
        *(
            "runs/x",
            "serving",
            "alice",
            "0" * 64,
            "10.1.2.3",
            "base_url",
            "api_key",
            "/run/secrets",
        ),
        "s3://bucket/store",
        "s3://bucket/paid",
    ):
        assert absent not in text
    assert "model: m" in text  # who wrote it stays
    assert "path: answers.parquet" in text


def test_a_run_keeps_what_makes_it_again_and_lets_nobody_in() -> None:
    recipe = parse_recipe(FULL, "test")
    kept = stored(recipe)
    assert "0" * 64 not in str(kept)
    again = parse_recipe(kept, "test")
    assert again.model_dump(exclude={"serving"}) == recipe.model_dump(exclude={"serving"})
    assert again.serving.upstreams == recipe.serving.upstreams


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_a_message_is_cut_as_it_is_made(text: str, secret: str) -> None:
    for error in (ConfigError(f"Cannot use {text}: no."), StepError(f"[{text}]", 3)):
        assert secret not in str(error)
        assert "[key]" in str(error)
    assert cut_secrets(cut_secrets(text)) == cut_secrets(text)


@given(st.text(max_size=40), st.sampled_from(sorted(KEYS.values())), st.text(max_size=40))
def test_a_key_is_cut_whatever_stands_around_it(before: str, key: str, after: str) -> None:
    assert key not in cut_secrets(f"{before} {key} {after}")
    assert key not in cut_secrets(f'{before} {{"k":"{key}"}} {after}')


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Incorrect API key provided: Bearer abcd1234efgh", "abcd1234"),
        ("{'Authorization': 'Basic YWRhOnB3'}", "YWRhOnB3"),
        ("authorization: hush-hush", "hush-hush"),
        ('{"api_key": "hush-hush"}', "hush-hush"),
        ("OPENAI_API_KEY=hush-hush", "hush-hush"),
        ("aws_secret_access_key = hush-hush", "hush-hush"),
        ("password=hush-hush&x=1", "hush-hush"),
        ("aws_session_token: hush-hush", "hush-hush"),
        ("refresh_token=hush-hush", "hush-hush"),
        # urllib3 tells an address without its host.
        ("exceeded with url: /x?y=1&X-Amz-Signature=hush-hush (Caused by", "hush-hush"),
        ('"PUT /b/x?sig=hush-hush HTTP/1.1" 403', "hush-hush"),
        ("-----BEGIN PRIVATE KEY-----\nhush+hush/\n-----END PRIVATE KEY-----", "hush+hush"),
    ],
)
def test_headers_and_assignments_are_cut(text: str, secret: str) -> None:
    assert secret not in cut_secrets(text)


def test_values_of_secret_variables_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SERVICE_TOKEN", "plain/words+here")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/home/ada/key.json")
    monkeypatch.setenv("LOCAL_API_KEY", "none")
    text = "got plain/words+here and plain%2Fwords%2Bhere from /home/ada/key.json: none"
    assert cut_secrets(text) == "got [key] and [key] from /home/ada/key.json: none"


def test_plain_messages_stay_as_they_are() -> None:
    for text in (
        "teachers.0.sampling.max_tokens: 5 of 9 (given: 'x')",
        "https://host.org/v1?page=2#top has no model 'sk'",
        "Bearer of bad news; password policy; key: value; token 5",
        "s3://bucket/run and sftp://ada@host/run at 12:30",
        "a@b.org:5 c:d e://f",
        "eos_token: </s>; is this it?token or key=value; a;key=5",
    ):
        assert cut_secrets(text) == text


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "a-",
        "sk-",
        "x://",
        "x:",
        "x://a:",
        "-----BEGIN PRIVATE KEY-----",
        "?sig=",
        "://a",
        "?a=",
        "a:b@",
        "Bearer ",
        "eyJ",
        "&",
        "-_",
        "=",
    ],
)
def test_long_messages_take_linear_time(piece: str) -> None:
    began = time.process_time()
    cut_secrets(piece * (200_000 // len(piece)))
    assert time.process_time() - began < 15


def test_log_lines_and_tracebacks_of_the_command_are_cut(
    capsys: pytest.CaptureFixture[str],
) -> None:
    secret = KEYS["openai"]
    record = logging.LogRecord("x", logging.INFO, "f", 1, "GET %s", (f"http://h/{secret}",), None)
    assert shared._cut_record(record)
    assert record.getMessage() == "GET http://h/[key]"
    try:
        raise RuntimeError(f"no {secret}")
    except RuntimeError as error:
        main._show_fault(type(error), error, error.__traceback__)
    shown_text = capsys.readouterr().err
    assert "RuntimeError: no [key]" in shown_text
    assert secret not in shown_text


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_why_a_part_of_the_report_is_absent_is_told_without_secrets(text: str, secret: str) -> None:
    for error in (OSError(f"no {text}"), FileNotFoundError(2, "none", text), KeyError(text)):
        assert secret not in reason_of(error)
