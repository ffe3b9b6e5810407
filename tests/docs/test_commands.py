"""Every command in the documents exists: its options, its arguments, and the settings it changes.

What the commands do is tested where they are: tests/cli, tests/runtime/test_runs.py (run),
tests/pipeline/test_compare.py, tests/runtime/test_real_endpoint.py (serve), tests/exports,
tests/routing, tests/hub, and tests/runtime/test_local_cluster.py (cluster/local.sh).
"""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from persyn_ray.cli.main import app
from persyn_ray.exports.forms import FORMS
from persyn_ray.pipeline.steps import STEPS
from persyn_ray.recipe.recipe import change, parse_recipe
from persyn_ray.serving.router_source import parse_serving

from .blocks import ROOT, blocks, pages
from .plain_recipe import PLAIN

INLINE = re.compile(r"`(persyn [^`]+)`")


def lines() -> Iterator[tuple[str, str]]:
    """Each line of shell blocks, with its place; continued lines as one, without remarks."""
    for block in blocks("bash"):
        for line in block.text.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield block.where, shlex.join(words)


LINES = list(lines())
COMMANDS = [(where, line) for where, line in LINES if line.startswith("persyn ")]


def context_of(words: list[str]) -> tuple[str, Any]:
    """The command's name, and what its parser makes of the words."""
    command, name = typer.main.get_command(app), ""
    while (inner := getattr(command, "commands", None)) is not None:
        assert words[0] in inner, f"there is no command {words[0]}"
        name, command, words = words[0], inner[words[0]], words[1:]
    return name, command.make_context(name, list(words))


def test_commands_are_found() -> None:
    assert len(COMMANDS) > 30


@pytest.mark.parametrize(("where", "line"), COMMANDS)
def test_it_parses(where: str, line: str) -> None:
    words = shlex.split(line)
    name, context = context_of(words[1:])
    given = context.params
    for override in given.get("overrides") or ():
        if name == "serve":
            data = change({"serving": {}}, override)
            parse_serving(data["serving"], where)
        else:
            parse_recipe(change(PLAIN, override), where)
    for option in ("start", "until"):
        assert given.get(option) in (None, "report", *(step.name for step in STEPS))
    if name == "export" and given["to"] != "list":
        assert given["to"] in {form.name for form in FORMS}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_commands_in_sentences_exist(page: Any) -> None:
    for text in INLINE.findall(page.read_text(encoding="utf-8")):
        words = text.replace("…", "X").split()
        if words[1].isupper() or words[1].startswith("-"):
            continue
        command: Any = typer.main.get_command(app)
        assert words[1] in command.commands, text
        for word in words[1:]:
            command = getattr(command, "commands", {}).get(word, command)
        known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
        used = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert used <= known | {"--help"}, text


def test_scripts_and_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for where, line in LINES:
        words = shlex.split(line)
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.M), (where, line)
        elif words[0].startswith(("cluster/", "./")):
            assert (ROOT / words[0]).is_file(), (where, line)
