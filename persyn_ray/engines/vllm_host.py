"""Host settings for vLLM (threads, memory) and error messages of its worker processes.

vLLM's engine core and workers are processes of their own: what really went wrong stands only in
their log, and the exception here says "see above". `EngineLog` reads it from where this process
writes, or from a file of its own where that is a terminal or a pipe.

Without a GPU, vLLM takes 92 % of all memory for its cache by default, whoever else is there, and
its generators of single requests fail where a prompt is read in several passes. `cpu_defaults` and
`seeds_requests` see to both.
"""

import json
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

ERROR_LINE = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception)\b: .+")
OUTER = re.compile(r"EngineDead|See (?:root|above)|root cause|stack trace")
"""What the outer ones of a chain of errors say."""
LOG_TAIL_BYTES = 200_000
LONGEST_CAUSE = 500  # characters

CPU_CACHE_BYTES = 4 * 2**30
"""Most memory of the cache without a GPU, unless the recipe says so; a quarter of what is free is
the most as well, so that several engines and a Ray have room beside one another."""
CGROUP = Path("/sys/fs/cgroup")
CACHE_SETTINGS = ("kv_cache_memory_bytes", "gpu_memory_utilization")
PASS_SETTINGS = ("max_num_batched_tokens", "enable_chunked_prefill")
LOGGING_SETTING = "VLLM_LOGGING_CONFIG_PATH"


def has_no_gpu() -> bool:
    """Whether the vLLM that is installed runs on CPUs."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def cpu_defaults(given: Mapping[str, Any], is_sampled: bool = False) -> dict[str, object]:
    """Engine arguments for a machine without a GPU, where the recipe's own leave them open.

    Args:
        is_sampled: whether requests want seeds of their own, see `seeds_requests`.
    """
    found: dict[str, object] = {}
    cache_is_set = any(name in given for name in CACHE_SETTINGS)
    if not cache_is_set and not os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
        found["kv_cache_memory_bytes"] = min(CPU_CACHE_BYTES, free_memory() // 4)
    if is_sampled and not any(name in given for name in PASS_SETTINGS):
        found["enable_chunked_prefill"] = False  # each prompt is read in one pass
    return found


def seeds_requests(config: Any) -> bool:
    """Whether each request can have a seed of its own under a configuration of vLLM.

    On CPUs the engine dies where a prompt is read in several passes: it then turns the request's
    generator back, which generators of CPUs cannot. There the engine's seed alone counts, and what
    is sampled can be had again only from the same requests in the same order.
    """
    return not (has_no_gpu() and config.scheduler_config.enable_chunked_prefill)


def free_memory() -> int:
    """Bytes that this machine, or the container around this process, can still give."""
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = (
            (CGROUP / name).read_text("utf-8").strip() for name in ("memory.max", "memory.current")
        )
        return min(free, int(limit) - int(used)) if limit != "max" else free
    except (OSError, ValueError):  # no control groups, or of another version
        return free


class EngineLog:
    """What is written from now on by this process and its children, as far as it can be read."""

    def __init__(self) -> None:
        paths = [Path(f"/proc/self/fd/{number}") for number in (1, 2) if _is_file(number)]
        if not _is_file(1):  # where vLLM logs to
            paths.append(_separate_log())
        self._places = {path: path.stat().st_size if path.exists() else 0 for path in paths}

    def last_error(self) -> str | None:
        """The last error that is not about another one."""
        found: list[str] = []
        for path, begin in self._places.items():
            found += _errors(path, begin)
        causes = [text for text in found if not OUTER.search(text)]
        return (causes or found or [None])[-1]

    def cause_of(self, error: Exception) -> str:
        """What really went wrong, as far as it is known."""
        return self.last_error() or f"{type(error).__name__}: {error}"


def _is_file(number: int) -> bool:
    """Whether an output of this process goes to a file, as a Ray worker's does."""
    try:
        return stat.S_ISREG(os.fstat(number).st_mode)
    except OSError:  # closed
        return False


def _separate_log() -> Path:
    """A file that vLLM's processes log their errors to, beside what they show."""
    given = os.environ.get(LOGGING_SETTING)
    if given is not None:
        return Path(given).with_suffix(".log")
    folder = Path(tempfile.mkdtemp(prefix="vllm-log-"))
    config, log = folder / "vllm.json", folder / "vllm.log"
    handlers = {
        "console": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"},
        "errors": {"class": "logging.FileHandler", "filename": str(log), "level": "ERROR"},
    }
    level = os.environ.get("VLLM_LOGGING_LEVEL", "INFO")
    vllm = {"handlers": list(handlers), "level": level, "propagate": False}
    settings = {"version": 1, "disable_existing_loggers": False, "handlers": handlers}
    config.write_text(json.dumps(settings | {"loggers": {"vllm": vllm}}), encoding="utf-8")
    os.environ[LOGGING_SETTING] = str(config)
    return log


def _errors(path: Path, begin: int) -> list[str]:
    try:
        with path.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(begin, end - LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    found = (ERROR_LINE.search(line) for line in lines)
    return [match[0][:LONGEST_CAUSE] for match in found if match]
