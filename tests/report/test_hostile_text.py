"""Text that would act, planted wherever foreign text goes: it acts on no terminal and no page."""

import json
import logging
import re
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from persyn_ray.escaping import VisibleFormatter, json_text, one_line, plain, visible
from persyn_ray.pipeline.results.explain import explain
from persyn_ray.pipeline.results.explain_display import show_prompt
from persyn_ray.pipeline.results.run import gather
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.report.card import card
from persyn_ray.report.content import to_json
from persyn_ray.report.html import render
from persyn_ray.report.markdown import markdown_code, markdown_text
from persyn_ray.report.text import console
from persyn_ray.storage.layout import RunLayout, run_of

HOSTILE = [
    "[red]not red[/red]",
    r"\[/x\]",
    "[/]",
    "[link=https://evil.example]here[/link]",
    "\x1b[2J\x1b[31mcleared",
    "\x1b]0;title\x07",
    "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "\x9b31mC1",
    "over\rwritten",
    "back\x08\x08space",
    "\u202etxt.exe\u202c",
    "\u2066isolated\u2069",
    r"$\frac{$",
    "$x^$",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![](https://evil.example/x.png)",
    "[text](javascript:alert(1))",
    "| a | b |\n|---|---|",
    "---\nlicense: mit\n---",
    "```\nbroken fence\n```",
    "# a heading",
    "{{ 7 * 7 }}{% raw %}",
    ":warning: :smile:",
    "\u0645\u0631\u062d\u0628\u0627 日本語 🙂",
    "label " + "x" * 10_000,
]
ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f\u2028\u2029]")
COLOURS = re.compile("\x1b\\[[0-9;]*m")
Finished = tuple[Recipe, RunLayout]


def acting(text: str) -> set[str]:
    return set(ACTS.findall(text))


def printed(what: Any, width: int = 100, is_terminal: bool = False) -> str:
    colours = "standard" if is_terminal else None
    screen = Console(width=width, force_terminal=is_terminal, color_system=colours)
    with screen.capture() as capture:
        screen.print(what)
    return capture.get()


@given(st.text())
def test_visible_text_never_acts_and_keeps_what_is_harmless(text: str) -> None:
    shown = visible(text)
    assert not acting(shown)
    assert visible(shown) == shown
    if not any(unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp") for one in text):
        assert shown == text
    assert "\n" not in one_line(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_rich_console_prints_it_as_it_stands(text: str) -> None:
    table = Table("name")
    table.add_row(plain(text))
    for shown in (printed(plain(text), 20_000), printed(table, 20_000)):
        assert not acting(shown)
        for line in visible(text).splitlines():
            assert line in shown
    assert not acting(COLOURS.sub("", printed(plain(text, "bold red"), 20_000, is_terminal=True)))


@given(st.text() | st.sampled_from(HOSTILE))
def test_json_text_has_the_same_value_and_does_not_act(text: str) -> None:
    written = json_text(json.dumps({text: text}, ensure_ascii=False))
    assert json.loads(written) == {text: text}
    assert not acting(written)


@pytest.mark.parametrize("text", HOSTILE)
def test_logs_are_visible(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("a", logging.ERROR, "f", 1, "failed: %s", (text,), info)
    assert not acting(VisibleFormatter().format(record))


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_stays_text(text: str) -> None:
    for shown in (markdown_text(text), markdown_code(text)):
        assert "\n" not in shown
        assert not acting(shown)
    shown = markdown_text(text)
    assert not re.search(r"(?<!\\)[<\[*`_$]", shown)
    assert "://" not in shown
    assert "|" not in shown


@pytest.fixture
def planted(finished: Finished, tmp_path: Path) -> Finished:
    """A finished run with hostile text in its prompts, labels, responses, errors and names."""
    recipe, run = finished
    shutil.copytree(run.root.local_path, tmp_path / "copy")
    everything = "\n".join(HOSTILE)
    recipe = recipe.model_copy(
        update={
            "run": str(tmp_path / "copy"),
            "name": everything[:2000],
            "teachers": tuple(
                one.model_copy(update={"licence": everything[:500]}) for one in recipe.teachers
            ),
        }
    )
    run = run_of(recipe)
    for shard in run.prompts.names(".parquet"):
        rows = run.prompts.read_table(shard)
        labels = [HOSTILE[n % len(HOSTILE)] for n in range(rows.num_rows)]
        messages = [[{"role": "user", "content": everything}] for _ in range(rows.num_rows)]
        changed = rows.to_pydict() | {"task": labels, "messages": messages}
        run.prompts.write_table(shard, pa.table(changed, schema=rows.schema))
    for path in (tmp_path / "copy" / "tables" / "responses").rglob("*.parquet"):
        folder = type(run.root)(str(path.parent))
        rows = folder.read_table(path.name)
        said = [everything] * rows.num_rows
        changed = rows.to_pydict() | {"response": said, "error": said}
        folder.write_table(path.name, pa.table(changed, schema=rows.schema))
    letter = {"step": "collect", "prompt_id": "p", "teacher": "a"}
    letters = [letter | {"reason": text[:60], "detail": text} for text in HOSTILE]
    schema = pa.schema([(name, pa.string()) for name in letters[0]])
    for step in ("collect", "synthesize"):
        run.dead_letters(step).write_table("shard-x.parquet", pa.Table.from_pylist(letters, schema))
    return recipe, run


def test_planted_everywhere_every_form_appears_and_nothing_acts(planted: Finished) -> None:
    recipe, run = planted
    content = gather(recipe, run, {"package": HOSTILE[4]})
    assert not any(part.startswith("figures") for part in content["problems"])
    page, text = render(content), card(content, {"train": "*.parquet"})
    told = printed(console(content), 100)
    for form in (page, text, told, to_json(content)):
        assert not acting(form.replace("\n", " "))
    assert "could not be made" not in told
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "not red" in page
    front = yaml.safe_load(text.split("---\n", 2)[1])
    assert set(front["configs"][0]["data_files"][0]) == {"split", "path"}
    assert re.search(r"^# ", text, re.MULTILINE)
    fences = re.findall(r"^(`{3,})", text, re.MULTILINE)
    assert len(fences) % 2 == 0 or max(map(len, fences)) > 3
    assert len(page) < 3_000_000


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_prompt_is_explained_at_any_width_and_nothing_acts(planted: Finished, width: int) -> None:
    recipe, run = planted
    prompt_id = run.prompts.read_table(run.prompts.names(".parquet")[0])["prompt_id"][0].as_py()
    found = explain(recipe, run, prompt_id)

    def shown_at(columns: int) -> str:
        screen = Console(width=columns, force_terminal=False)
        with screen.capture() as capture:
            show_prompt(found, screen)
        return capture.get()

    shown = shown_at(width)
    assert not acting(shown)
    assert "".join(shown.split()) == "".join(shown_at(1000).split())
    assert max(map(len, shown.splitlines())) <= width
    for name in ("a", "b", "c"):
        assert re.search(rf"^{name}\b", shown, re.MULTILINE)
    for figure in ("quality", "learnability", "reward", "logit", "ended"):
        assert len(re.findall(rf"\b{figure} \S", shown)) >= 3
    assert "persyn → " in shown
