"""The endpoint on real Ray Serve: the command with HAProxy, and a router swapped under load."""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch

from persyn_ray.client.http import RouterClient, RouterError
from persyn_ray.method.novelty import Novelty
from persyn_ray.models.load import load_tokenizer
from persyn_ray.models.router.frozen import prompt_features
from persyn_ray.models.router.model import build_router, save_router
from persyn_ray.runtime.session import Cluster
from persyn_ray.serving.middleware.api_keys import new_key
from persyn_ray.serving.router_source import settings_of

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]
PATIENCE = 60  # seconds in which a busy machine answers
TEACHERS = ("ada", "bert", "cleo")
PROMPTS = [f"What is {n} plus {n * n % 17}?" for n in range(40)]


def fitted(random_llama: str, folder: Path, favourite: str) -> Path:
    """A router that likes one teacher best on every prompt."""
    router, tokenizer = build_router(random_llama, TEACHERS), load_tokenizer(random_llama)
    with torch.no_grad():
        router.head.bias[TEACHERS.index(favourite)] = 50.0
    save_router(router, tokenizer, folder, {"max_length": 64})
    seen = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    Novelty.fit(prompt_features(router, tokenizer, seen).numpy()).save(folder / "novelty.npz")
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def command(
    random_llama: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """Address and key of `persyn serve`, with its own Ray and HAProxy."""
    folder = fitted(random_llama, tmp_path_factory.mktemp("served") / "router", "bert")
    port = free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    log = folder.parent / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "persyn_ray.cli.main", "serve", str(folder)),
                *("--port", str(port), "serving.chat_budget.tokens=10"),
                f"serving.chat_ledger={folder.parent / 'ledger'}",
                "serving.upstreams.bert={model: m, base_url: 'http://127.0.0.1:9/v1'}",
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            yield f"http://127.0.0.1:{port}", _key_of(log, process)
        finally:
            process.terminate()
            process.wait(300)


def _key_of(log: Path, process: subprocess.Popen[bytes]) -> str:
    for _ in range(6000):
        found = re.search(r"pk-[\w-]{43}", log.read_text())
        if found:
            return found[0]
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(f"no key after ten minutes: {log.read_text()}")


def test_the_command_serves_with_a_key_of_its_own(command):
    address, key = command
    with RouterClient(address, key) as client:
        routes = client.route(PROMPTS)
        assert {route.teacher for route in routes} == {"bert"}
        assert not any(route.is_novel for route in routes)
        assert client.status()["num_routed"] >= len(PROMPTS)
    with RouterClient(address, "pk-wrong") as client, pytest.raises(RouterError) as error:
        client.route(PROMPTS[:1])
    assert error.value.status == 401


def test_chats_over_their_budget_are_refused_through_haproxy(command):
    address, key = command
    chat = {"model": "persyn", "messages": [{"role": "user", "content": "hi"}]}
    headers = {"X-API-Key": key}
    refused = httpx.post(
        f"{address}/v1/chat/completions", headers=headers, json=chat, timeout=PATIENCE
    )
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
    assert "retry-after" not in refused.headers
    chats = httpx.get(f"{address}/v1/status", headers=headers, timeout=PATIENCE).json()["chats"]
    assert (chats["bert"]["tokens"], chats["bert"]["budget_tokens"]) == (0, 10)


def test_haproxy_stands_before_the_replicas(command):
    address, key = command
    names = subprocess.run(["ps", "-eo", "comm"], capture_output=True, text=True, check=True).stdout
    assert "haproxy" in names
    text = httpx.get(f"{address}/metrics", headers={"X-API-Key": key}, timeout=PATIENCE).text
    assert "persyn_replicas 1.0" in text
    assert httpx.get(f"{address}/", timeout=PATIENCE).text.startswith("<!doctype html>")


def test_a_large_body_and_a_wrong_one_are_refused_through_haproxy(command):
    address, key = command
    headers = {"X-API-Key": key, "Content-Type": "application/json"}

    def endless() -> Iterator[bytes]:
        yield b'{"prompt": "'
        for _ in range(100):
            yield b"a" * 2**16
        yield b'"}'

    with httpx.Client(headers=headers, timeout=PATIENCE) as client:
        assert client.post(f"{address}/v1/route", content=endless()).status_code == 413
        assert client.post(f"{address}/v1/route", content=b"{").status_code == 400


def test_a_router_is_swapped_and_a_teacher_masked_without_losing_a_request(
    random_llama: str, tmp_path: Path, cluster: Cluster
):
    from ray import serve

    from persyn_ray.runtime.serve_command import Address, start

    key, digest = new_key()
    routers = [fitted(random_llama, tmp_path / name, name) for name in ("bert", "cleo")]
    address = Address(port=free_port())

    def deploy(router: Path, **policy: list[str]) -> None:
        # More settings than `policy` must stay as they are, or replicas are replaced.
        given = {"keys": {"me": digest}, "requests_per_second": 1e6, "burst": 10**6}
        start(*settings_of(str(router), given | policy), address, plain_proxy=True)

    answers, stop = [], threading.Event()

    def ask() -> None:
        with RouterClient(address.url, key, retries=0) as client:
            while not stop.is_set():
                answers.append(client.route(PROMPTS[len(answers) % len(PROMPTS)])[0])

    def until(teacher: str) -> None:
        deadline = time.monotonic() + 300
        while not answers or answers[-1].teacher != teacher:
            assert time.monotonic() < deadline, f"no answer of {teacher}'s router in 300 s"
            assert thread.is_alive(), "a request was lost"
            time.sleep(0.05)

    try:
        deploy(routers[0])
        before = replica_pids()
        thread = threading.Thread(target=ask)
        thread.start()
        until("bert")
        deploy(routers[1])
        until("cleo")
        deploy(routers[1], masked=["cleo"])
        until("ada") if answers[-1].runner_up == "ada" else until("bert")
        stop.set()
        thread.join(300)
        assert replica_pids() == before, "replicas were replaced"
        right = {"bert", "cleo"}
        by_router = {route.router: set() for route in answers}
        for route in answers:
            by_router[route.router].add(route.teacher)
        assert len(by_router) == 2
        assert right <= {teacher for teachers in by_router.values() for teacher in teachers}
        assert not any(route.fallback for route in answers)
    finally:
        stop.set()
        serve.shutdown()
        shutil.rmtree(tmp_path, ignore_errors=True)


def replica_pids() -> set[int]:
    found = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True)
    lines = [line for line in found.stdout.splitlines() if "ServeReplica:persyn:Router" in line]
    return {int(line.split()[0]) for line in lines}
