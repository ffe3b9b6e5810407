"""Writes a first recipe: what a file of prompts holds and who teaches whom in, YAML out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

import yaml

from persyn_ray.errors import ConfigError
from persyn_ray.pipeline.new_recipe.look import Looked
from persyn_ray.recipe.reading.short_forms import long_teacher
from persyn_ray.recipe.recipe import parse_recipe

REWARD_MODEL = "Skywork/Skywork-Reward-Llama-3.1-8B"  # the paper's
LOOPBACK = ("localhost", "127.0.0.1", "::1")
OPENAI = "https://api.openai.com/v1"


@dataclass(frozen=True)
class Choices:
    """Who teaches whom, as flags or answers give it."""

    teachers: tuple[str, ...]
    """KIND:MODEL of each."""
    student: str
    base_urls: tuple[str, ...] = ()
    """Of the endpoints: one for all, or one each, in their order."""
    api_key_env: str | None = None
    """Variable with the endpoints' key; without it, by the address."""
    has_gpus: bool = False
    """Whether this machine has GPUs, for the student and the router."""
    max_tokens: int = 1024
    """Of a response, the student's too."""


@dataclass(frozen=True)
class _Teacher:
    name: str
    kind: str
    model: str
    base_url: str | None


def recipe_text(looked: Looked, choices: Choices, run: str | None = None) -> str:
    """The recipe; it has been read once, so it fits the schema.

    Raises:
        ConfigError: a teacher or an address cannot be used, or there are fewer than two teachers.
    """
    parts = (
        _head(looked, run or f"runs/{PurePath(looked.path).name.partition('.')[0] or 'my-run'}"),
        _student(choices),
        _teachers(_named(choices), choices),
        _prompts(looked),
        _scoring(looked, choices),
        _router(choices),
        _training(looked, choices.max_tokens),
        _resources(choices),
    )
    text = "\n".join(parts)
    parse_recipe(yaml.safe_load(text), "The new recipe")
    return text


def _head(looked: Looked, run: str) -> str:
    return (
        f"# {looked.num_prompts:,} prompts of {_value(looked.path)}; its columns: "
        f"{', '.join(looked.columns)}.\n"
        "# `persyn check` tries all of it before money is spent; `persyn plan` says what it takes; "
        "`persyn schema`\n# prints every setting.\n"
        f"run: {_value(run)}\n"
    )


def _student(choices: Choices) -> str:
    return f"student: {_value(choices.student)}   # the very checkpoint that is tuned at the end\n"


def _named(choices: Choices) -> list[_Teacher]:
    """The teachers with names of their own and the addresses of endpoints."""
    if len(choices.teachers) < 2:
        raise ConfigError("A router chooses among at least two teachers: give --teacher twice.")
    longs: list[dict[str, Any]] = []
    for given in choices.teachers:
        try:
            longs.append(long_teacher(given))
        except ValueError as error:
            raise ConfigError(f"--teacher {given}: {error}.") from None
    endpoints = sum(long["engine"]["kind"] == "openai" for long in longs)
    urls = list(choices.base_urls) * (endpoints if len(choices.base_urls) == 1 else 1)
    if urls and len(urls) != endpoints:
        raise ConfigError(
            f"--base-url is given {len(choices.base_urls)} times for {endpoints} openai teachers: "
            "give one for all, or one each."
        )
    found: list[_Teacher] = []
    for long in longs:
        kind, model = long["engine"]["kind"], long["engine"]["model"]
        names = [teacher.name for teacher in found]
        number = sum(name == long["name"] or name.startswith(f"{long['name']}-") for name in names)
        name = f"{long['name']}-{number + 1}" if long["name"] in names else long["name"]
        url = urls.pop(0) if kind == "openai" and urls else None
        found.append(_Teacher(name, kind, model, url))
    return found


def _teachers(teachers: Sequence[_Teacher], choices: Choices) -> str:
    lines = ["teachers:"]
    for teacher in teachers:
        lines += [
            f"  - name: {_value(teacher.name)}",
            f"    engine: {_engine(teacher, choices)}",
            f"    sampling: {{max_tokens: {choices.max_tokens}}}   # thinking included; greedy, "
            "unless temperature is set",
        ]
        if teacher.kind == "openai":
            lines += [
                "    # price: {prompt: 0.15, response: 0.60}   # dollars per million tokens",
                "    # budget: {dollars: 5}                    # needs the price; no more is asked",
            ]
        if teacher.kind == "vllm":
            lines.append("    resources: {gpus: 1}   # or tensor_parallel: N, for a larger model")
    return "\n".join(lines) + "\n"


def _engine(teacher: _Teacher, choices: Choices) -> str:
    given: dict[str, Any] = {"kind": teacher.kind, "model": teacher.model}
    if teacher.kind == "transformers":
        given["model"] = {"name": teacher.model, "dtype": "bfloat16"}
    if teacher.kind == "openai":
        url = teacher.base_url or OPENAI
        given["base_url"] = url
        is_own = urlsplit(url).hostname in LOOPBACK
        given["api_key_env"] = choices.api_key_env or (None if is_own else "OPENAI_API_KEY")
    return _value(given)


def _prompts(looked: Looked) -> str:
    shared = looked.num_parallel + looked.num_heldout
    lines = [
        "prompts:",
        f"  path: {_value(looked.path)}",
        f"  column: {_value(looked.column)}",
        _or_comment("  reference_column", looked.reference_column, "NAME   # right answers"),
        _or_comment("  task_column", looked.task_column, "NAME   # for break-downs in the report"),
        f"  num_parallel: {looked.num_parallel}   # answered by every teacher",
        f"  num_heldout: {looked.num_heldout}   # kept for evaluation",
        f"  # the other {max(0, looked.num_prompts - shared):,} go to one teacher each",
    ]
    return "\n".join(lines) + "\n"


def _or_comment(key: str, value: str | None, example: str) -> str:
    if value is not None:
        return f"{key}: {_value(value)}"
    return f"  # {key.strip()}: {example}"


def _scoring(looked: Looked, choices: Choices) -> str:
    checked = "{kind: exact_answer}"
    model = f"{{kind: reward_model, model: {REWARD_MODEL}}}"
    quality, other = (checked, model) if looked.reference_column else (model, checked)
    note = "" if looked.reference_column else " (needs prompts.reference_column)"
    return (
        "scoring:\n  alpha: 0.4   # weight of learnability in the reward (Eq. 2)\n"
        f"  quality: {quality}\n"
        f"  # quality: {other}{note}\n"
        "  # quality: {kind: judge, engine: {kind: openai, model: NAME}}   # a grade by a model\n"
    )


def _router(choices: Choices) -> str:
    return f"router:\n  backbone: {_value(choices.student)}\n"


def _training(looked: Looked, max_tokens: int) -> str:
    measured = "" if looked.num_heldout else "# "
    return (
        "finetune:\n  epochs: 2\n  learning_rate: 1.0e-5\n\n"
        f"{measured}evaluate:\n{measured}  max_tokens: {max_tokens}   # as long as what students "
        "learn from\n"
    )


def _resources(choices: Choices) -> str:
    gpus = ", gpus: 1" if choices.has_gpus else ""
    steps = ("collect", "score", "quality", "route", "evaluate")
    lines = [f"  {name}: {{actors: 1, cpus: 1{gpus}}}" for name in steps]
    lines += [f"  {name}: {{workers: 1, cpus: 1{gpus}}}" for name in ("router", "finetune")]
    return (
        "resources:   # never part of a run's identity: a larger machine goes on with the run\n"
        + "\n".join(lines)
        + "\n# hardware: {nodes: 1, gpus_per_node: 1, gpu: l40s}   # what `persyn plan` reckons "
        "with\n"
    )


def _value(value: Any) -> str:
    """A value as YAML in one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True
    )
    return text.removesuffix("...\n").strip()
