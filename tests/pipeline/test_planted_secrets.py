"""A run whose keys are given as they should be, and whose endpoint repeats them: what it leaves."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from persyn_ray.engines.build import build_engine
from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.plan.display import show
from persyn_ray.pipeline.plan.plan import plan_run
from persyn_ray.pipeline.results.report import write_report
from persyn_ray.recipe.recipe import load_recipe

from ..conftest import carry_out_here, changed, planted_rows, recipe_data, write_jsonl
from ..engines.openai.fault_server import Call, FaultServer, Reply, answer, failure

OF_VARIABLE = "planted+of/the=variable"  # in no known form, and written differently in an address
OF_FILE = "planted-of-the-file-0001"
OF_STORE = "planted-of-the-store-0002"
DIGEST = "5ec4e7" + "0" * 58
SECRETS = (OF_VARIABLE, "planted%2Bof", OF_FILE, OF_STORE)
HIDDEN = (DIGEST, "alice@example.org")  # no secrets, but nobody's business


def echo(call: Call) -> Reply | None:
    """A few prompts are refused, all others answered, with all that was sent."""
    given = json.dumps(call.headers)
    if call.method == "GET":
        return None
    if call.number % 8 == 0:
        return failure(400, f"bad prompt; you sent {given}")
    if call.number % 8 == 1:
        return Reply(400, f"<html>{given} sk-live0123456789abcdefgh</html>".encode())
    message = {"role": "assistant", "content": f"#### 3 {given}"}
    return answer(call, message=message)


def everything(folder: Path) -> str:
    """All bytes and all values of tables below a folder, and the names themselves."""
    found: list[str] = []
    for path in sorted(folder.rglob("*")):
        found.append(str(path.relative_to(folder)))
        if path.is_file():
            found.append(path.read_bytes().decode("latin-1"))
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            found.append(str(table.to_pylist()) + str(table.schema.metadata))
    return "\n".join(found)


@pytest.fixture
def planted(tmp_path: Path, random_llama: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("PLANTED_KEY", OF_VARIABLE)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OF_STORE)
    (tmp_path / "key").write_text(f"{OF_FILE}\n", encoding="utf-8")
    write_jsonl(tmp_path / "prompts.jsonl", planted_rows(24))
    models = {"student.name": random_llama, "router.backbone.name": random_llama}
    serving = {"keys": {"alice@example.org": DIGEST}, "keys_file": str(tmp_path / "keys")}
    return changed(recipe_data(tmp_path), models | {"serving": serving})


def test_a_run_leaves_no_secret_behind(
    planted: dict[str, Any],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with FaultServer(echo) as server:
        engine = {"kind": "openai", "model": "tiny", "base_url": server.base_url}
        planted["teachers"][0]["engine"] = engine | {"api_key_env": "PLANTED_KEY"}
        planted["teachers"][1]["engine"] = engine | {
            "api_key_env": None,
            "api_key_file": str(tmp_path / "key"),
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(json.dumps(planted), encoding="utf-8")
        recipe = load_recipe(path)
        run = carry_out_here(recipe)
        console = Console()
        write_report(recipe, run, console)
        show(plan_run(recipe), console)
        assert {call.headers.get("authorization") for call in server.calls} >= {
            f"Bearer {OF_VARIABLE}",
            f"Bearer {OF_FILE}",
        }
    said = capfd.readouterr()
    left = everything(tmp_path / "run")
    for secret in (*SECRETS, "sk-live0123456789abcdefgh", *HIDDEN):
        assert secret not in left
        assert secret not in said.out + said.err + caplog.text
    assert "bad prompt; you sent" in left  # what the endpoint said is there, but for the key
    assert "[key]" in left
    for shown in ("report.html", "report.json", "dataset/README.md"):
        text = (tmp_path / "run" / shown).read_text(encoding="utf-8")
        for hidden in (server.base_url, "PLANTED_KEY", str(tmp_path / "key"), "serving:"):
            assert hidden not in text, (shown, hidden)


@pytest.mark.parametrize("status", [401, 403, 302, 500])
def test_what_an_endpoint_says_no_with_is_cut(
    planted: dict[str, Any], tmp_path: Path, status: int
) -> None:
    def refuse(call: Call) -> Reply:
        return Reply(status, f"no: {call.headers} http://ada:hush@h/?sig=hush".encode())

    with FaultServer(refuse) as server:
        engine = {"kind": "openai", "model": "tiny", "base_url": server.base_url, "attempts": 1}
        planted["teachers"][0]["engine"] = engine | {"api_key_env": "PLANTED_KEY"}
        path = tmp_path / "recipe.yaml"
        path.write_text(json.dumps(planted), encoding="utf-8")
        recipe = load_recipe(path)
        built = build_engine(recipe.teachers[0], recipe.responses)
        try:
            with pytest.raises(ConfigError) as refused:
                built.check()
        finally:
            built.close()
    assert "hush" not in str(refused.value)
    assert not any(secret in str(refused.value) for secret in SECRETS)
    assert os.environ["PLANTED_KEY"] == OF_VARIABLE
