"""What vLLM is told of a machine without GPUs, and what is read of its log; no vLLM is needed."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from persyn_ray.engines import vllm_host
from persyn_ray.engines.vllm_host import (
    CPU_CACHE_BYTES,
    EngineLog,
    cpu_defaults,
    free_memory,
    seeds_requests,
)

GIB = 2**30
DIED = """\
(Worker pid=7) ERROR 07:08:48 [multiproc.py:1055] Traceback (most recent call last):
(Worker pid=7) ERROR 07:08:48 [multiproc.py:1055] RuntimeError: CPU Generator does not use offset
(EngineCore pid=6) ERROR [core.py:1368] RuntimeError: Worker failed with error 'CPU Generator \
does not use offset', please check the stack trace above for the root cause
ERROR 11-26 07:08:48 [async_llm.py:843] vllm.v1.engine.exceptions.EngineDeadError: EngineCore \
encountered an issue. See stack trace (above) for the root cause.
"""
NOT_STARTED = """\
ERROR 11-26 07:06:32 [multiproc.py:944] ValueError: Available memory on node 0 (16.5/18.71 GiB) \
on startup is less than desired CPU memory utilization (0.92, 17.22 GiB).
(EngineCore pid=6) ERROR [core.py:1366] Exception: WorkerProc initialization failed due to an \
exception in a background process. See stack trace for root cause.
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)

    def give(num_bytes: int) -> None:
        monkeypatch.setattr(vllm_host, "free_memory", lambda: num_bytes)

    return give


@pytest.mark.parametrize(
    ("free_bytes", "cache_bytes"),
    [(64 * GIB, CPU_CACHE_BYTES), (8 * GIB, 2 * GIB), (GIB, GIB // 4)],
)
def test_the_cache_takes_a_part_of_what_is_free(
    free: Any, free_bytes: int, cache_bytes: int
) -> None:
    free(free_bytes)
    assert cpu_defaults({})["kv_cache_memory_bytes"] == cache_bytes


@pytest.mark.parametrize("name", ["kv_cache_memory_bytes", "gpu_memory_utilization"])
def test_a_cache_that_the_recipe_sets_stays(free: Any, name: str) -> None:
    free(64 * GIB)
    assert "kv_cache_memory_bytes" not in cpu_defaults({name: 1})


def test_a_cache_that_the_environment_sets_stays(
    free: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(64 * GIB)
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "2")
    assert "kv_cache_memory_bytes" not in cpu_defaults({})


@pytest.mark.parametrize(
    "given", [{"max_num_batched_tokens": 64}, {"enable_chunked_prefill": True}]
)
def test_prompts_are_read_in_one_pass_unless_the_recipe_says_otherwise(
    free: Any, given: dict[str, Any]
) -> None:
    free(GIB)
    assert cpu_defaults({}, is_sampled=True)["enable_chunked_prefill"] is False
    assert "enable_chunked_prefill" not in cpu_defaults(given, is_sampled=True)
    assert "enable_chunked_prefill" not in cpu_defaults({})  # greedily, no request has a seed


@pytest.mark.parametrize(
    ("has_no_gpu", "is_chunked", "is_seeded"),
    [(True, True, False), (True, False, True), (False, True, True), (False, False, True)],
)
def test_single_requests_have_seeds_where_that_cannot_end_the_engine(
    monkeypatch: pytest.MonkeyPatch, has_no_gpu: bool, is_chunked: bool, is_seeded: bool
) -> None:
    monkeypatch.setattr(vllm_host, "has_no_gpu", lambda: has_no_gpu)
    scheduler = SimpleNamespace(enable_chunked_prefill=is_chunked)
    assert seeds_requests(SimpleNamespace(scheduler_config=scheduler)) is is_seeded


def test_memory_is_what_the_container_leaves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(vllm_host, "CGROUP", tmp_path)
    whole = free_memory()  # no such files
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert free_memory() == 600_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory() == pytest.approx(whole, rel=0.5)


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        (DIED, "RuntimeError: CPU Generator does not use offset"),
        (NOT_STARTED, "ValueError: Available memory on node 0 (16.5/18.71 GiB) on startup"),
        ("RuntimeError: Engine core failed. See root cause above.", "RuntimeError: Engine core"),
        ("ValueError: No memory. See https://docs\n" + NOT_STARTED[-90:], "ValueError: No memory."),
        ("all is well\n", "OSError: outer"),
    ],
)
@pytest.mark.parametrize("is_piped", [False, True])
def test_the_root_cause_is_told_wherever_the_processes_write(
    tmp_path: Path, log: str, cause: str, is_piped: bool
) -> None:
    """As in a worker of Ray, whose outputs are files, and as in a terminal or a pipe."""
    script = """
import os, sys, subprocess
print("ValueError: an older engine", flush=True)
from persyn_ray.engines.vllm_host import EngineLog, LOGGING_SETTING
log = EngineLog()
child = '''
import json, logging.config, os, sys
if path := os.environ.get("VLLM_LOGGING_CONFIG_PATH"):
    logging.config.dictConfig(json.load(open(path)))
    for line in sys.argv[1].splitlines():
        logging.getLogger("vllm").error(line)
else:
    print(sys.argv[1])
'''
subprocess.run([sys.executable, "-c", child, sys.argv[1]], check=True)
open(sys.argv[2], "w").write(log.cause_of(OSError("outer")))
"""
    command = [sys.executable, "-c", script, log, str(tmp_path / "cause")]
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "TMPDIR": str(tmp_path)}
    environment.pop("VLLM_LOGGING_CONFIG_PATH", None)
    with (tmp_path / "out").open("w") as out:
        to = subprocess.PIPE if is_piped else out
        subprocess.run(command, check=True, stdout=to, stderr=to, env=environment)
    assert (tmp_path / "cause").read_text().startswith(cause)


def test_an_error_from_before_is_not_the_cause(capfd: pytest.CaptureFixture[str]) -> None:
    os.write(1, b"ValueError: an older engine\n")
    log = EngineLog()
    assert log.cause_of(OSError("new")) == "OSError: new"
    os.write(1, b"KeyError: 'this one'\n")
    assert log.cause_of(OSError("new")) == "KeyError: 'this one'"
