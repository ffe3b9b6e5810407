"""Checks of the machine that a run would start on: sections of a recipe in, findings out.

API keys, packages, processors and free space. On a cluster (RAY_ADDRESS) keys and packages are the
workers', so what is missing here is a remark.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.check.findings import Finding, refused
from persyn_ray.pipeline.check.stack import GIB, gpus, installed
from persyn_ray.recipe.engines import OpenAIEngineConfig, VllmEngineConfig
from persyn_ray.recipe.resources import ResourcesConfig
from persyn_ray.recipe.scoring import JudgeConfig, ScoringConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.recipe.training import EvaluateConfig
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import parts_of

HTTP = "httpx"  # what endpoints are asked with
NEEDED = ("ray", "torch", "transformers", "accelerate", "deepspeed", HTTP)
LEAST_FREE = 1 * GIB


def is_on_cluster() -> bool:
    """Whether a run started from here would work elsewhere."""
    return bool(os.environ.get("RAY_ADDRESS"))


def check_keys(teachers: Sequence[TeacherConfig], scoring: ScoringConfig) -> Iterator[Finding]:
    """The API keys that endpoints need: where the recipe says, and not empty."""
    if installed(HTTP) is None:  # `check_packages` says so
        return
    asked = [teacher for teacher in teachers if not teacher.retired]
    judges = [part.quality for part in parts_of(scoring) if isinstance(part.quality, JudgeConfig)]
    asked += [judge.as_teacher() for judge in judges]
    places: list[str] = []
    for teacher in asked:
        engine = teacher.engine
        if not isinstance(engine, OpenAIEngineConfig):
            continue
        from persyn_ray.engines.openai.account import EndpointAccount

        place = engine.api_key_file or engine.api_key_env
        try:
            EndpointAccount(teacher.name, engine).key()
        except ConfigError as error:
            yield refused("key", error, _how_to_give(engine))
        else:
            places += [place] if place else []
    if places:
        yield Finding("keys", "ok", f"Found: {', '.join(dict.fromkeys(places))}.")


def _how_to_give(engine: OpenAIEngineConfig) -> str:
    if engine.api_key_file is not None:
        return f"Write the key into {engine.api_key_file}."
    return f"export {engine.api_key_env}=… before `persyn run`."


def check_packages(
    teachers: Sequence[TeacherConfig], scoring: ScoringConfig, evaluate: EvaluateConfig
) -> Iterator[Finding]:
    """The packages that steps of this recipe import."""
    missing = [package for package in NEEDED if installed(package) is None]
    if missing:
        text = f"Not installed: {', '.join(missing)}."
        yield Finding("packages", "problem", text, "pip install 'persyn-ray[run]'")
    harness = evaluate.lm_eval
    users = [t.name for t in teachers if isinstance(t.engine, VllmEngineConfig) and not t.retired]
    users += ["scoring.backend"] if scoring.backend == "vllm" else []
    users += ["evaluate.engine"] if evaluate.engine.kind == "vllm" else []
    users += ["evaluate.lm_eval"] if harness is not None and harness.backend == "vllm" else []
    if users and installed("vllm") is None:
        text = f"vLLM is not installed; {', '.join(users)} would run on it."
        missing.append("vllm")
        yield Finding("packages", "problem", text, "pip install 'persyn-ray[vllm]'")
    if harness is not None and installed("lm_eval") is None:
        missing.append("lm_eval")
        text = "lm_eval is not installed; evaluate.lm_eval needs it."
        yield Finding("packages", "problem", text, "pip install 'persyn-ray[lm-eval]'")
    if not missing:
        yield Finding("packages", "ok", "All that this recipe needs is installed.")


def check_resources(
    run: str, resources: ResourcesConfig, gpu_teachers: Sequence[TeacherConfig]
) -> Iterator[Finding]:
    """Whether this machine's processors hold every step, and every teacher on GPUs."""
    if is_on_cluster():
        text = f"The cluster at {os.environ['RAY_ADDRESS']} is looked at when the run starts."
        yield Finding("machine", "ok", text)
        return
    from persyn_ray.runtime.session import Cluster, check_fits

    cpus, found = float(os.cpu_count() or 1), gpus()
    num = float(len(found))
    has = f"{cpus:g} CPUs and {num:g} GPUs"
    try:
        check_fits(run, resources, Cluster(cpus, num, 0.0, cpus, num))
    except ConfigError as error:
        yield refused("machine", error, "Lower `resources`, or start it on a cluster.")
        return
    if gpu_teachers and not found:
        names = ", ".join(teacher.name for teacher in gpu_teachers)
        text = f"This machine has no GPU; {names} would run on GPUs."
        fix = "Set RAY_ADDRESS to a cluster, or give these teachers `resources: {gpus: 0}`."
        yield Finding("machine", "problem", text, fix)
        return
    yield Finding("machine", "ok", f"{has} hold every step.")


def check_disk(run: Folder, needed_bytes: float | None) -> Iterator[Finding]:
    """Free space where the run will write, beside what it is going to take, if that is known."""
    if not run.is_local:
        yield Finding("disk", "ok", f"{run.address} is remote: its space is not looked at.")
        return
    there = next(path for path in (run.local_path, *run.local_path.parents) if path.exists())
    if not os.access(there, os.W_OK):
        yield Finding("disk", "problem", f"{there} cannot be written to.", "Set `run`.")
        return
    yield _space(there, shutil.disk_usage(there).free, needed_bytes)


def _space(there: Path, free: float, needed: float | None) -> Finding:
    has = f"{free / GIB:,.1f} GiB free at {there}"
    if needed is None:
        wanted, told = LEAST_FREE, "; what the run takes is not known, as a model's size is not"
    else:
        wanted, told = (
            max(needed, LEAST_FREE),
            f"; the run takes about {max(needed / GIB, 0.1):,.1f} GiB",
        )
    if free < wanted:
        return Finding("disk", "problem", f"Only {has}{told}.", "Set `run` to a place with more.")
    return Finding("disk", "ok", f"{has}{told}.")
