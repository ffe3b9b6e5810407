"""A real vLLM on CPUs, in this process and behind an endpoint: seeds, refusals, how it breaks."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from persyn_ray.engines.base import Message, Request
from persyn_ray.engines.build import build_engine
from persyn_ray.errors import ConfigError, EngineDead
from persyn_ray.models.load import resolve
from persyn_ray.pipeline.collect import check_teachers
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.teachers import TeacherConfig

from .small_vllm import MODEL, PROMPTS, SAMPLING, SPEED, THINGS, vllm_recipe, vllm_teacher

pytestmark = [pytest.mark.vllm, pytest.mark.assets, pytest.mark.timeout(1800)]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return vllm_recipe(tmp_path)


def test_settings_that_vllm_refuses_name_the_teacher() -> None:
    wrong = vllm_teacher(resources={"gpus": 0, "arguments": {"no_such_argument": 1}})
    engine = build_engine(TeacherConfig.model_validate(wrong))
    message = Message(role="user", content="Hello")
    with pytest.raises(ConfigError, match=r"smollm2.*no_such_argument"):
        engine.generate([Request("p", [message])])


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
def test_sampling_without_a_gpu_draws_by_request_and_a_broken_engine_says_why() -> None:
    """More tokens at once than one pass takes: split prompts would end the engine."""
    sampling = {"max_tokens": 16, "temperature": 0.8}
    arguments = {"enforce_eager": True, "max_num_seqs": 32}  # the cache fits by itself
    resources = {"gpus": 0, "cpus": 1, "arguments": arguments}
    teacher = TeacherConfig.model_validate(vllm_teacher(sampling=sampling, resources=resources))
    content = "Write about all of these in one line: " + ", ".join(THINGS * 3)
    message = Message(role="user", content=content)
    requests = [Request(f"p{number}", [message]) for number in range(24)]
    engine = build_engine(teacher)
    try:
        first = {r.prompt_id: a for r, a in zip(requests, engine.generate(requests), strict=True)}
        again = requests[:5:-2]
        second = {r.prompt_id: a for r, a in zip(again, engine.generate(again), strict=True)}
    finally:
        engine.close()
    assert all(one.text and one.finish_reason in ("stop", "length") for one in first.values())
    assert len({one.text for one in first.values()}) > 12
    same = [first[prompt_id].text == one.text for prompt_id, one in second.items()]
    assert sum(same) >= 0.7 * len(same)  # another batch rounds otherwise

    resources = {"gpus": 0, "cpus": 1, "arguments": SPEED | {"kv_cache_memory_bytes": 4096}}
    broken = build_engine(TeacherConfig.model_validate(vllm_teacher(resources=resources)))
    with pytest.raises(EngineDead, match=r"smollm2': ValueError: No available memory for"):
        broken.generate(requests[:1])
    broken.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    """A real `vllm serve` on loopback that wants a key."""
    port, log = free_port(), tmp_path / "serve.log"
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", resolve(MODEL)),
        *("--served-model-name", "smollm2", "--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", "float32", "--max-model-len", "512", "--enforce-eager"),
        *(
            "--max-num-seqs",
            "32",
            "--kv-cache-memory-bytes",
            str(2**29),
            "--api-key",
            "open-sesame",
        ),
    ]
    environment = os.environ | {"VLLM_LOGGING_LEVEL": "ERROR"}
    with log.open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(300)


def wait_until_healthy(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 1200
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            if httpx.get(url, timeout=30, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(1)
    raise AssertionError(log.read_text()[-3000:])


def test_a_real_endpoint_answers_and_refuses(
    endpoint: str, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESAME", "open-sesame")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    engine = {
        "kind": "openai",
        "model": "smollm2",
        "base_url": endpoint,
        "api_key_env": "SESAME",
    }
    given = {"name": "served", "engine": engine, "sampling": SAMPLING}
    served = TeacherConfig.model_validate(given)
    requests = [
        Request(f"p{number}", [Message(role="user", content=prompt)])
        for number, prompt in enumerate(PROMPTS)
    ]
    teacher = build_engine(served)
    teacher.check()
    answers = teacher.generate(requests)
    teacher.close()
    assert {one.finish_reason for one in answers} == {"stop", "length"}
    assert all(one.text and 0 < one.num_tokens <= 24 and one.num_prompt_tokens for one in answers)

    unknown = TeacherConfig.model_validate(given | {"engine": engine | {"model": "gpt-0"}})
    teacher = build_engine(unknown)
    teacher.check()  # names that are not listed may be answered to: the first prompt decides
    refusals = teacher.generate(requests)
    teacher.close()
    assert {one.finish_reason for one in refusals} == {"unavailable"}
    assert "does not know the model 'gpt-0'" in str(refusals[0].error)
    monkeypatch.setenv("SESAME", "wrong")
    with pytest.raises(ConfigError, match="SESAME") as refused:
        check_teachers([served, unknown], recipe.pool)
    assert "wrong" not in str(refused.value).replace("wrong key", "")
