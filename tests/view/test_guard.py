"""Who may ask the viewer, for what, and what its answers forbid a browser to do."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from persyn_ray.errors import ConfigError
from persyn_ray.view.app import VIEWS, create_app
from persyn_ray.view.guard import host_name, is_loopback

from . import planting
from .conftest import client_of

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202e\x00\x1b[31m"


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    prompts = [{"id": "x", "text": HOSTILE, "task": HOSTILE, "source": HOSTILE}]
    run = planting.planted(str(tmp_path / "run"), prompts)
    planting.respond(run, 0, "shard-000000.parquet", {"x": HOSTILE})
    return client_of(run.root.address)


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_the_page_under_a_policy_without_inline_scripts(
    client: TestClient, view: str
) -> None:
    answer = client.get(view, params={"search": HOSTILE})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert HOSTILE not in answer.text


def test_scripts_of_the_page_are_served_as_scripts(client: TestClient) -> None:
    answer = client.get("/static/main.js")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-cache"
    assert client.get("/static/%2e%2e/app.py").status_code == 404
    assert client.get("/static/../app.py").status_code == 404


def test_hostile_text_comes_back_as_json_and_unchanged(client: TestClient) -> None:
    answer = client.get("/api/prompts")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["rows"][0]["text"] == HOSTILE
    assert client.get("/api/prompts/x").json()["responses"][0]["text"] == HOSTILE
    assert client.get("/api/prompts", params={"search": HOSTILE}).json()["total"] == 1
    assert client.get("/api/prompts", params={"task": HOSTILE}).json()["total"] == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed(client: TestClient, method: str) -> None:
    answer = client.request(method, "/api/prompts")
    assert answer.status_code == 405
    assert "only reads" in answer.json()["error"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_another_name_for_this_machine_is_refused(client: TestClient, host: str) -> None:
    answer = client.get("/api/run", headers={"host": host})
    assert answer.status_code == 421
    assert "localhost" in answer.json()["error"]


@pytest.mark.parametrize("host", ["localhost:8265", "127.0.0.1:8265", "[::1]:8265", "127.0.0.2"])
def test_its_own_names_are_not(client: TestClient, host: str) -> None:
    assert client.get("/api/run", headers={"host": host}).status_code == 200


def test_a_viewer_for_others_answers_to_every_name(tmp_path: Path) -> None:
    run = planting.planted(str(tmp_path / "run"), [{"id": "x", "text": "y"}])
    client = TestClient(create_app(run.root.address, is_loopback=False), base_url="http://node-7")
    assert client.get("/api/run").status_code == 200


def test_names_of_hosts() -> None:
    assert [host_name(one) for one in ("a:1", "a", "[::1]:5", "[::1]")] == ["a", "a", "::1", "::1"]
    assert not is_loopback("localhost.evil.example")
    assert not is_loopback("0.0.0.0")


def test_unknown_addresses_and_faults_are_sentences(client: TestClient) -> None:
    answer = client.get("/elsewhere")
    assert answer.status_code == 404
    assert "pages: /, /prompts" in answer.json()["error"]


def test_a_report_is_shown_under_a_policy_of_its_own(client: TestClient, tmp_path: Path) -> None:
    missing = client.get("/report")
    assert missing.status_code == 404
    assert "persyn report" in missing.text
    (tmp_path / "run" / "report.html").write_text("<!doctype html><p>Results")
    answer = client.get("/report")
    assert answer.text.endswith("Results")
    assert "script-src" not in answer.headers["content-security-policy"]
    assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]


def test_a_folder_without_a_run_is_refused_before_anything_is_served(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        create_app(str(tmp_path))
